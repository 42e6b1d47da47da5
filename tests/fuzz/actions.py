"""A good body for each action of a server."""

from typing import Any

ACTIONS: tuple[Any, ...] = (
    {"os-start": None},
    {"os-stop": None},
    {"reboot": {"type": "HARD"}},
    {"pause": None},
    {"unpause": None},
    {"lock": {"locked_reason": "x"}},
    {"unlock": None},
    {"forceDelete": None},
    {"os-getConsoleOutput": {"length": 10}},
    {"addFixedIp": {"networkId": "{network_id}"}},
    {"removeFixedIp": {"address": "10.77.0.50"}},
    {"addSecurityGroup": {"name": "default"}},
    {"removeSecurityGroup": {"name": "default"}},
    {"resize": {"flavorRef": "{flavor_id}"}},
    {"rescue": {"adminPass": "x", "rescue_image_ref": "{image_id}"}},
    {"unrescue": None},
    {"shelve": None},
    {"unshelve": {"availability_zone": "nova", "host": "fuzz"}},
    {"changePassword": {"adminPass": "x"}},
    {"evacuate": {"host": "fuzz", "adminPass": "x"}},
    {"migrate": {"host": "fuzz"}},
    {"os-migrateLive": {"host": "fuzz", "block_migration": "auto"}},
    {"os-getSerialConsole": {"type": "serial"}},
    {"os-getVNCConsole": {"type": "novnc"}},
)
