"""Tests in a guest: under a User Mode Linux kernel with IPVS, pytest runs what is under tests/ipvs. See README.md."""
