"""OpenStack's APIs: one folder per service; `query` and `links` hold what several of them share."""
