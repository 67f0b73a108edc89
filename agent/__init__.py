"""The host agent: attaches containers, programs the kernel, drives the BGP speaker."""
