# A job that fails: its exit code and what it wrote to stderr are kept.
echo "reading the orders"
echo "orders.csv: line 17 has no price" >&2
exit 3
