"""The registry's route table."""

from nacre.cloud.registry.policies import POLICIES
from nacre.panes.edge import Route, Service
from nacre.panes.registry import blobs, login, manifests
from nacre.panes.registry.dialect import HEADERS, STATUS_OF, render_error

_MANIFEST = "/{name:.+}/manifests/{reference}"
_UPLOADS = "/{name:.+}/blobs/uploads/"
_UPLOAD = _UPLOADS + "{upload}"
_BLOB = "/{name:.+}/blobs/{digest}"

ROUTES: tuple[Route, ...] = (
    Route("GET", "/", manifests.base, "registry:base", "Whether this is a registry, and the login good"),
    Route("GET", "", manifests.base, "registry:base", "Whether this is a registry, and the login good"),
    Route("GET", "/token", login.token, None, "Get a bearer token for a Basic login"),
    Route("GET", "/_catalog", manifests.catalog, "registry:catalog", "List repositories"),
    Route("GET", "/{name:.+}/tags/list", manifests.tags, "registry:pull", "List tags"),
    Route("GET", "/{name:.+}/referrers/{digest}", manifests.referrers, "registry:pull", "List what refers to a manifest"),
    Route("GET", _MANIFEST, manifests.show, "registry:pull", "Pull a manifest"),
    Route("HEAD", _MANIFEST, manifests.show, "registry:pull", "Pull a manifest, headers only"),
    Route("PUT", _MANIFEST, manifests.put, "registry:push", "Push a manifest"),
    Route("DELETE", _MANIFEST, manifests.delete, "registry:delete", "Delete a tag or a manifest"),
    Route("POST", _UPLOADS, blobs.begin, "registry:push", "Begin an upload, push or mount a blob", streams=True),
    Route("GET", _UPLOAD, blobs.progress, "registry:push", "Show how far an upload is"),
    Route("PATCH", _UPLOAD, blobs.chunk, "registry:push", "Push a chunk", streams=True),
    Route("PUT", _UPLOAD, blobs.finish, "registry:push", "End an upload", streams=True),
    Route("DELETE", _UPLOAD, blobs.cancel, "registry:push", "Cancel an upload"),
    Route("GET", _BLOB, blobs.show, "registry:pull", "Pull a blob"),
    Route("HEAD", _BLOB, blobs.show, "registry:pull", "Pull a blob, headers only"),
    Route("DELETE", _BLOB, blobs.delete, "registry:delete", "Delete a blob"),
)

SERVICE = Service(
    "registry",
    "/v2",
    ROUTES,
    render_error,
    POLICIES,
    status_of=STATUS_OF,
    authenticate=login.authenticate,
    headers=HEADERS,
)
