"""Who may do what: `pki` and `revocation` for certificates, `apikeys`, client `addresses`, and the `throttle`."""
