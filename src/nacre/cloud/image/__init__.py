"""Images: what servers start from. Their bytes lie in the store's blobs; a row names them by digest."""
