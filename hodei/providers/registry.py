"""Makes the provider for a row of ``provider_configs``. Adapters are imported only when one of theirs is
made."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from uuid import UUID

from hodei.domain.causes import Failure
from hodei.domain.self_hosted import SELF_HOSTED
from hodei.providers.contract import Provider, ProviderError
from hodei.providers.reach import server_url
from hodei.settings import Settings

PROVIDER_TYPES = ("docker", "kubernetes", "process", "fake")


def build_provider(
    *,
    provider_id: UUID,
    provider_type: str,
    config: dict[str, Any] | None,
    settings: Settings,
    data_dir: Path,
) -> Provider:
    """Make one provider; there may be several of one type. Nothing connects yet: ask its health for that.

    ``data_dir`` is where process workers live and the fake's fleet listens. Raises ProviderError: ERR_4002
    for a type that does not exist, ERR_5007 for a configuration that is wrong.
    """
    url = server_url(settings.server_host, settings.worker_manager_port, provider_type)
    if provider_type == "docker":
        from hodei.providers.docker.provider import DockerProvider

        usual = {"network": settings.docker_network} if settings.docker_network else {}
        return DockerProvider(
            provider_id,
            server_url=url,
            default_image=settings.worker_image,
            config=usual | (config or {}),
        )
    if provider_type == "process":
        from hodei.embedded.data_folder import hidden_from_jobs
        from hodei.providers.process.provider import ProcessProvider

        return ProcessProvider(
            provider_id,
            server_url=url,
            data_dir=data_dir,
            config=config,
            secret=lambda: hidden_from_jobs(data_dir, settings.log_dir),
        )
    if provider_type == "fake":
        from hodei.providers.fake.provider import FakeProvider

        return FakeProvider(provider_id, server_url=url, data_dir=data_dir, config=config)
    if provider_type == SELF_HOSTED:
        from hodei.providers.self_hosted import SelfHostedProvider

        return SelfHostedProvider(provider_id)
    if provider_type == "kubernetes":
        from hodei.providers.kubernetes.provider import KubernetesProvider

        return KubernetesProvider(provider_id, settings=settings, config=config)
    known = ", ".join(PROVIDER_TYPES)
    message = f"There is no type of provider {provider_type!r}; the types are {known}."
    raise ProviderError(Failure(code="ERR_4002", message=message))
