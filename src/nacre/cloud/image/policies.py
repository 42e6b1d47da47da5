"""Image's rows of the policy table, named as Glance names them. Whose image it is, the operations decide."""

from nacre.cloud.policy import ADMIN, AUTHENTICATED, MEMBER, READER, Rule

POLICIES: dict[str, Rule] = {
    "get_images": READER,
    "get_image": READER,
    "add_image": MEMBER,
    "modify_image": MEMBER,
    "delete_image": MEMBER,
    "publicize_image": ADMIN,
    "communitize_image": MEMBER,
    "upload_image": MEMBER,
    "download_image": READER,
    "stage_image": MEMBER,
    "import_image": MEMBER,
    "deactivate": MEMBER,
    "reactivate": MEMBER,
    "get_members": READER,
    "get_member": READER,
    "add_member": MEMBER,
    "modify_member": MEMBER,
    "delete_member": MEMBER,
    "get_image_schema": AUTHENTICATED,
    "get_import_info": AUTHENTICATED,
}
