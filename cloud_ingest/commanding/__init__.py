"""Commands to gateways: signed, kept, published until a result is there, audited; firmware in waves."""
