"""Image's rows of the policy table, named as Glance names them. Whose image it is, the operations decide."""

from nacre.cloud.policy import ADMIN, AUTHENTICATED, Rule

PROJECT_READER = Rule("reader", scoped=True)
PROJECT_MEMBER = Rule("member", scoped=True)
SERVICE = Rule("admin", also="service")

_READ_METADEFS = (
    *("get_metadef_namespaces", "get_metadef_namespace", "get_metadef_objects", "get_metadef_object"),
    *("get_metadef_properties", "get_metadef_property", "get_metadef_tags", "get_metadef_tag"),
    *("list_metadef_resource_types", "get_metadef_resource_type"),
)
_CHANGE_METADEFS = (
    *("add_metadef_namespace", "modify_metadef_namespace", "delete_metadef_namespace"),
    *("add_metadef_object", "modify_metadef_object", "delete_metadef_object"),
    *("add_metadef_property", "modify_metadef_property", "remove_metadef_property"),
    *("add_metadef_tags", "add_metadef_tag", "modify_metadef_tag", "delete_metadef_tag", "delete_metadef_tags"),
    *("add_metadef_resource_type_association", "remove_metadef_resource_type_association"),
)

POLICIES: dict[str, Rule] = {
    "get_images": PROJECT_READER,
    "get_image": PROJECT_READER,
    "add_image": PROJECT_MEMBER,
    "modify_image": PROJECT_MEMBER,
    "delete_image": PROJECT_MEMBER,
    "publicize_image": ADMIN,
    "communitize_image": PROJECT_MEMBER,
    "upload_image": PROJECT_MEMBER,
    "download_image": PROJECT_MEMBER,
    "stage_image": PROJECT_MEMBER,
    "import_image": PROJECT_MEMBER,
    "copy_image": ADMIN,
    "deactivate": PROJECT_MEMBER,
    "reactivate": PROJECT_MEMBER,
    "get_members": PROJECT_READER,
    "get_member": PROJECT_READER,
    "add_member": PROJECT_MEMBER,
    "modify_member": PROJECT_MEMBER,
    "delete_member": PROJECT_MEMBER,
    "add_image_location": PROJECT_MEMBER,
    # Asked beyond modify_image, for a patch of the locations.
    "set_image_location": PROJECT_MEMBER,
    # What a place on the web says about its image is for the services that fetch from it.
    "fetch_image_location": SERVICE,
    "delete_image_location": ADMIN,
    "get_image_schema": AUTHENTICATED,
    "get_import_info": AUTHENTICATED,
    "stores_info_detail": ADMIN,
    "tasks_api_access": ADMIN,
    **dict.fromkeys(_READ_METADEFS, PROJECT_READER),
    **dict.fromkeys(_CHANGE_METADEFS, ADMIN),
}
