"""Images that tests make on the spot: layers, archives of `docker save`, OCI layouts."""

import hashlib
import io
import json
import tarfile
from typing import Any


def layer(files: dict[str, str]) -> bytes:
    """A tar of these files."""
    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode="w", format=tarfile.GNU_FORMAT) as tar:
        for name, text in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(text)
            tar.addfile(info, io.BytesIO(text.encode()))
    return target.getvalue()


def digest(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def config(*layers: bytes, **settings: Any) -> bytes:
    """An OCI config over uncompressed layers."""
    document = {
        "architecture": "amd64",
        "os": "linux",
        "created": "2026-01-02T03:04:05.123456789Z",
        "config": settings,
        "rootfs": {"type": "layers", "diff_ids": [digest(one) for one in layers]},
        "history": [{"created_by": f"step {number}"} for number in range(len(layers))],
    }
    return json.dumps(document).encode()


def docker_archive(images: list[tuple[list[str], bytes, list[bytes]]]) -> bytes:
    """What `docker save` wrote before OCI layouts: (names, config, layers) of each image."""
    target, manifest = io.BytesIO(), []
    with tarfile.open(fileobj=target, mode="w") as tar:
        for names, document, layers in images:
            paths = [f"{digest(one)[7:]}/layer.tar" for one in layers]
            for path, data in (*zip(paths, layers, strict=True), (f"{digest(document)[7:]}.json", document)):
                info = tarfile.TarInfo(path)
                info.size = len(data)
                tar.addfile(info, io.BytesIO(data))
            manifest.append({"Config": f"{digest(document)[7:]}.json", "RepoTags": names, "Layers": paths})
        data = json.dumps(manifest).encode()
        info = tarfile.TarInfo("manifest.json")
        info.size = len(data)
        tar.addfile(info, io.BytesIO(data))
    return target.getvalue()


def manifest(document: bytes, *layers: bytes) -> bytes:
    """An OCI manifest over uncompressed layers."""
    kind = "application/vnd.oci.image."
    listed = [{"mediaType": f"{kind}layer.v1.tar", "digest": digest(one), "size": len(one)} for one in layers]
    settings = {"mediaType": f"{kind}config.v1+json", "digest": digest(document), "size": len(document)}
    whole = {"schemaVersion": 2, "mediaType": f"{kind}manifest.v1+json", "config": settings, "layers": listed}
    return json.dumps(whole).encode()
