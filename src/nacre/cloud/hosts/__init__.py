"""Hosts: their books (what is claimed), and the desired state of each as a numbered log of marks."""
