"""The API process: it puts the panes, the gateway and the cloud together and serves them."""
