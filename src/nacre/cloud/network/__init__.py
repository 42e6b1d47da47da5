"""Networking: networks, subnets, ports, routers, floating IPs, security groups, and what the hosts need of them."""
