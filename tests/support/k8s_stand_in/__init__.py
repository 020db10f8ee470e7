"""A stand-in for a Kubernetes cluster of one node, over real HTTPS on loopback.

It speaks the wire formats of Kubernetes 1.29 and later as far as somebody who runs pods needs them, refuses what the real API
server refuses and in its words (RBAC from the very manifests that are shipped, Pod Security, quota, validation), and really
runs the containers of a pod, on the local Docker engine, as ``k8s-stand-in-*``.

Read it from ``cluster.py``. ``python -m support.k8s_stand_in`` starts one by hand and prints the path of its kubeconfig.

It is held to a real cluster by ``tests/integration/kubernetes``, which with ``HODEI_K8S_TEST=1`` and an administrator's
``KUBECONFIG`` run there unchanged, like the contract suite and ``tests/acceptance/kubernetes``. Images that tests make are
brought to its nodes with the command in ``K8S_LOAD_IMAGE``.

What it does not play: NetworkPolicies, Services' addresses, probes, hooks, persistent volumes, sidecars, any pull of an image.
"""
