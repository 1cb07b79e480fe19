"""Authlib, confidential. It has no call for registration, so that is a plain request."""

import os

import requests
from authlib.common.security import generate_token
from authlib.integrations.base_client import OAuthError
from authlib.integrations.requests_client import OAuth2Session
from client import Loopback, issuer, parameters, remember, remembered

os.environ["AUTHLIB_INSECURE_TRANSPORT"] = "1"

loopback = Loopback()
server = requests.get(f"{issuer}/.well-known/oauth-authorization-server").json()
assert server["issuer"] == issuer, server

client = remembered
if client is None:
    metadata = {
        "client_name": "Authlib",
        "redirect_uris": [loopback.redirect_uri],
        "grant_types": ["authorization_code", "refresh_token"],
        "token_endpoint_auth_method": "client_secret_post",
    }
    answer = requests.post(server["registration_endpoint"], json=metadata)
    assert answer.status_code == 201, answer.text
    client = answer.json()
    remember(client)

session = OAuth2Session(
    client["client_id"],
    client["client_secret"],
    token_endpoint_auth_method=client["token_endpoint_auth_method"],
    scope="profile photos:read",
    redirect_uri=loopback.redirect_uri,
    code_challenge_method="S256",
)
code_verifier = generate_token(48)
url, state = session.create_authorization_url(server["authorization_endpoint"], code_verifier=code_verifier)
landed = loopback.visit(url)
assert parameters(landed)["iss"] == issuer
token = session.fetch_token(
    server["token_endpoint"], authorization_response=landed, state=state, code_verifier=code_verifier
)
assert token["scope"] == "profile photos:read", token

refreshed = session.refresh_token(server["token_endpoint"], token["refresh_token"])
assert refreshed["access_token"] != token["access_token"]
assert refreshed["refresh_token"] != token["refresh_token"]

if remembered is not None:
    # The last run cleans up, and a client that is gone is told so.
    credentials = {"Authorization": f"Bearer {client['registration_access_token']}"}
    known = requests.get(client["registration_client_uri"], headers=credentials)
    assert known.json()["client_id"] == client["client_id"], known.text
    assert requests.delete(client["registration_client_uri"], headers=credentials).status_code == 204
    assert requests.get(client["registration_client_uri"], headers=credentials).status_code == 401
    try:
        session.refresh_token(server["token_endpoint"], refreshed["refresh_token"])
    except OAuthError as error:
        assert error.error == "invalid_client", error
    else:
        raise AssertionError("a deleted client got tokens")

print("client_id", client["client_id"])
