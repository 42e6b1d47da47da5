"""Image's route table."""

from nacre.cloud.image.policies import POLICIES
from nacre.panes.edge import Route, Service
from nacre.panes.openstack.image import files, images, imports, members, metadefs, versions
from nacre.panes.openstack.image.dialect import STATUS_OF, render_error
from nacre.panes.openstack.image.schemas import SCHEMAS, schema_of

_IMAGES = "/v2/images"
_IMAGE = "/v2/images/{image_id}"
_MEMBERS = "/v2/images/{image_id}/members"
_MEMBER = "/v2/images/{image_id}/members/{member_id}"
_TAG = "/v2/images/{image_id}/tags/{tag}"

ROUTES: tuple[Route, ...] = (
    Route("GET", "", versions.choices, None, "List API versions"),
    Route("GET", "/", versions.choices, None, "List API versions"),
    Route("GET", "/versions", versions.versions, None, "List API versions"),
    Route("GET", _IMAGES, images.listing, "get_images", "List images"),
    Route("HEAD", _IMAGES, images.listing, "get_images", "List images, headers only"),
    Route("POST", _IMAGES, images.create, "add_image", "Create an image"),
    Route("GET", _IMAGE, images.show, "get_image", "Show an image"),
    Route("HEAD", _IMAGE, images.show, "get_image", "Show an image, headers only"),
    Route("PATCH", _IMAGE, images.update, "modify_image", "Update an image"),
    Route("DELETE", _IMAGE, images.delete, "delete_image", "Delete an image"),
    Route("POST", _IMAGE + "/actions/deactivate", images.deactivate, "deactivate", "Deactivate an image"),
    Route("POST", _IMAGE + "/actions/reactivate", images.reactivate, "reactivate", "Reactivate an image"),
    Route("PUT", _IMAGE + "/file", files.upload, "upload_image", "Upload image data", streams=True),
    Route("GET", _IMAGE + "/file", files.download, "download_image", "Download image data"),
    Route("HEAD", _IMAGE + "/file", files.download, "download_image", "Download image data, headers only"),
    Route("PUT", _IMAGE + "/stage", files.stage, "stage_image", "Stage image data", streams=True),
    Route("PUT", _TAG, images.add_tag, "modify_image", "Add a tag to an image"),
    Route("DELETE", _TAG, images.remove_tag, "modify_image", "Remove a tag from an image"),
    Route("GET", _MEMBERS, members.listing, "get_members", "List an image's members"),
    Route("POST", _MEMBERS, members.create, "add_member", "Share an image with a project"),
    Route("GET", _MEMBER, members.show, "get_member", "Show an image's member"),
    Route("PUT", _MEMBER, members.update, "modify_member", "Accept or reject a shared image"),
    Route("DELETE", _MEMBER, members.delete, "delete_member", "Stop sharing an image with a project"),
    *(Route("GET", f"/v2/schemas/{name}", schema_of(name), "get_image_schema", f"Show the {name} schema") for name in SCHEMAS),
    *imports.ROUTES,
    *metadefs.ROUTES,
)

SERVICE = Service("image", "/image", ROUTES, render_error, POLICIES, status_of=STATUS_OF)
