"""The volumes of a pod, as folders on this machine that its containers see."""

from __future__ import annotations

import base64
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

from support.k8s_stand_in import quantities
from support.k8s_stand_in.environment import NotReady, field_of, resource_of
from support.k8s_stand_in.resources import CONFIG_MAPS, SECRETS, Resource
from support.k8s_stand_in.store import Object, Store

MESSAGE_BYTES = 4096


class Volumes:
    """Made before the first container, removed after the last. ``mounts`` says where they are for one container."""

    def __init__(self, store: Store, pod: Object, folder: Path) -> None:
        self._store = store
        self._pod = pod
        self._folder = folder
        self._group: int | None = (pod["spec"].get("securityContext") or {}).get("fsGroup")
        self._by_name = {volume["name"]: volume for volume in pod["spec"].get("volumes") or ()}

    def make(self) -> None:
        """Raises NotReady when something is not there that a volume is made of."""
        for name, volume in self._by_name.items():
            place = self._folder / name
            place.mkdir(parents=True, exist_ok=True)
            if "emptyDir" in volume:
                self._open_up(place)
            else:
                self._fill(name, volume, place)

    def mounts(self, container: dict[str, Any]) -> tuple[list[str], dict[str, str]]:
        """Bind mounts, and file systems in memory by their place. A missing ``subPath`` is made."""
        binds, memory = [], {}
        for mount in container.get("volumeMounts") or ():
            volume = self._by_name[mount["name"]]
            empty = volume.get("emptyDir") or {}
            if empty.get("medium") == "Memory":
                size = f",size={int(quantities.amount(empty['sizeLimit']))}" if "sizeLimit" in empty else ""
                memory[mount["mountPath"]] = f"rw,nosuid,nodev,mode=1777{size}"
                continue
            source = self._folder / mount["name"]
            if sub := mount.get("subPath"):
                source /= sub
                if not source.exists():
                    source.mkdir(parents=True)
                    self._open_up(source)
            options = "ro" if mount.get("readOnly") or "emptyDir" not in volume else "rw"
            binds.append(f"{source}:{mount['mountPath']}:{options}")
        message = self._message(container["name"])
        message.parent.mkdir(parents=True, exist_ok=True)
        message.touch()
        message.chmod(0o666)
        binds.append(f"{message}:{container['terminationMessagePath']}:rw")
        return binds, memory

    def last_words(self, container: str) -> str:
        """What the container wrote to its ``terminationMessagePath``."""
        message = self._message(container)
        return message.read_bytes()[:MESSAGE_BYTES].decode(errors="replace") if message.exists() else ""

    def _message(self, container: str) -> Path:
        return self._folder / ".last-words" / container

    def remove(self, image: str | None) -> None:
        """``image`` helps where other users' files can be removed only by root in a container."""
        if not self._folder.exists():
            return
        try:
            shutil.rmtree(self._folder)
        except PermissionError:
            if image is None:
                raise
            inside = [
                "--entrypoint",
                "rm",
                "-v",
                f"{self._folder.parent}:/pods",
                image,
                "-rf",
                f"/pods/{self._folder.name}",
            ]
            subprocess.run(["docker", "run", "--rm", "--user", "0", "--network", "none", *inside], check=True)

    def _open_up(self, place: Path) -> None:
        if self._group is not None and os.geteuid() == 0:
            os.chown(place, 0, self._group)
        place.chmod(0o2777 if self._group is not None else 0o777)

    def _fill(self, name: str, volume: dict[str, Any], place: Path) -> None:
        sources = volume["projected"].get("sources") or () if "projected" in volume else [volume]
        mode = next(
            (
                int(part["defaultMode"])
                for part in volume.values()
                if isinstance(part, dict) and "defaultMode" in part
            ),
            0o644,
        )
        for source in sources:
            for path, data in self._files(source).items():
                file = place / path
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_bytes(data)
                if self._group is not None and os.geteuid() == 0:
                    os.chown(file, 0, self._group)
                    file.chmod(mode | 0o440)
                else:
                    file.chmod(mode)

    def _files(self, source: dict[str, Any]) -> dict[str, bytes]:
        if secret := source.get("secret"):
            name = secret.get("secretName") or secret.get("name")
            found = self._data(SECRETS, name, secret)
            return self._chosen({key: base64.b64decode(value) for key, value in found.items()}, secret)
        if config := source.get("configMap"):
            found = self._data(CONFIG_MAPS, config["name"], config)
            return self._chosen({key: value.encode() for key, value in found.items()}, config)
        if down := source.get("downwardAPI"):
            return {item["path"]: self._said(item).encode() for item in down.get("items") or ()}
        if token := source.get("serviceAccountToken"):
            return {token["path"]: b"a token of the stand-in, which nobody accepts"}
        return {}

    def _said(self, item: dict[str, Any]) -> str:
        if "fieldRef" in item:
            return field_of(self._pod, item["fieldRef"]["fieldPath"])
        return resource_of(self._pod, item["resourceFieldRef"])

    def _data(self, resource: Resource, name: str, source: dict[str, Any]) -> dict[str, str]:
        found = self._store.get(resource, self._pod["metadata"]["namespace"], name)
        if found is None and not source.get("optional"):
            raise NotReady(f'{resource.kind.lower()} "{name}" not found')
        return (found or {}).get("data") or {}

    def _chosen(self, data: dict[str, bytes], source: dict[str, Any]) -> dict[str, bytes]:
        items = source.get("items")
        return (
            data
            if items is None
            else {item["path"]: data[item["key"]] for item in items if item["key"] in data}
        )
