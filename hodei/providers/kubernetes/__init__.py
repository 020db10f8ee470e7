"""Workers as pods of a Kubernetes cluster, 1.29 or later, with the rights of ``deploy/kubernetes/20-rbac.yaml`` and no more.

Pure: ``pod`` (manifests), ``overlay`` (the operator's template), ``restricted`` (what Pod Security wants), ``view`` (what
a pod's status means), ``failures`` (what the API server and the kubelet say). Talking: ``kubeconfig`` and ``credentials``
(where the cluster is, who we are), ``api`` (requests), ``watch`` (the informer), ``examine`` and ``probe`` (health),
``provider``.

Why not the Python package `kubernetes`: whatever part of it is imported, all of its models are, 90 MB and many times the
start-up of the rest, in every process that looks at a provider. What is needed of it is a kubeconfig's reader and HTTP:
manifests and answers are plain documents here. urllib3, which Docker's client loads anyway, has connections for many
threads, time-outs for each read, TLS contexts and proxies; the deadline of a whole call, and a watch that cannot hang,
are built on it in ``api`` and ``watch``.

Pitfalls. A grace period of 0 is no quick kill: it removes the pod's object and leaves the container to a kubelet that may
not answer; 1 is the quickest end that the kubelet confirms. A pod that is gone says nothing of why: the watch keeps the
last words of those it saw go. An image that is missing keeps a pod Pending for ever.
"""
