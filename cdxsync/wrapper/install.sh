main() { echo hi @@FQDN@@ ; }
main
