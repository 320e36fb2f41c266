"""Files that outputs are compared with, and the script that makes them."""
