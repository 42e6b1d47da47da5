"""The operator's own small API: health, status, audit."""
