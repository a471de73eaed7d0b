"""Golden values of tests/golden.rs, by the Python package `cryptography` and the standard library: run it to make them again."""
import base64, hmac, struct, unicodedata, uuid
from hashlib import sha256
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

tenant = uuid.UUID("0190a5b8-0000-7000-8000-000000000001")
key, version, nonce = bytes(range(32)), 7, bytes(range(100, 112))
part = lambda b: struct.pack(">Q", len(b)) + b
aad = b"".join(map(part, [b"v1", tenant.bytes, b"customers", b"email", struct.pack(">q", 42), struct.pack(">I", version)]))
sealed = b"\x01" + struct.pack(">I", version) + nonce + AESGCM(key).encrypt(nonce, "Zoë <zoe@example.com>".encode(), aad)
print("SEALED", sealed.hex())

mac = lambda k, *parts: hmac.new(k, b"".join(parts), sha256).digest()
normal = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", " ZOË＠Example.com ").strip().lower())
column_key = mac(key, b"salespulse/blind-index/v1/", b"customers.email")
print("INDEX", mac(column_key, normal.encode())[:16].hex())
print("PHONE", mac(mac(key, b"salespulse/blind-index/v1/", b"customers.phone"), b"+493012345")[:16].hex())

kek = bytes([0xA5] * 32)
kek_id = mac(kek, b"salespulse/kek-id/v1")[:8].hex()
name = f"salespulse/{tenant}/data/7".encode()
print("WRAPPED", f"local:{kek_id}:" + base64.b64encode(nonce + AESGCM(kek).encrypt(nonce, key, name)).decode())
