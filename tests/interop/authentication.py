"""Authlib and the MCP Python SDK authenticate by every method that they have."""

import asyncio
import json
import os
import time

import httpx2
import requests
from authlib.common.security import generate_token
from authlib.integrations.base_client import OAuthError
from authlib.integrations.requests_client import OAuth2Session
from authlib.oauth2.rfc7523 import ClientSecretJWT, PrivateKeyJWT
from client import Loopback, issuer, parameters, remembered, serve
from joserfc.jwk import import_key
from mcp.client.auth import AuthorizationCodeResult, OAuthClientProvider
from mcp.client.auth.exceptions import OAuthTokenError
from mcp.client.auth.extensions.client_credentials import PrivateKeyJWTOAuthProvider, SignedJWTParameters
from mcp.shared.auth import OAuthClientInformationFull, OAuthClientMetadata

os.environ["AUTHLIB_INSECURE_TRANSPORT"] = "1"

loopback = Loopback()
server = requests.get(f"{issuer}/.well-known/oauth-authorization-server").json()


class ForTheIssuer:
    """Authlib's assertions are for the token endpoint and live for an hour, unless told otherwise."""

    def sign(self, auth, token_endpoint):
        self.claims = {"aud": issuer, "exp": int(time.time()) + 60}
        return super().sign(auth, token_endpoint)


class Assertion(ForTheIssuer, PrivateKeyJWT):
    pass


class SecretAssertion(ForTheIssuer, ClientSecretJWT):
    pass


def with_authlib(client: dict, code_of: str) -> None:
    """Redeems a code that was issued to the client `code_of`, and refreshes the tokens."""
    key = import_key(client["jwk"]) if "jwk" in client else None
    session = OAuth2Session(
        client["client_id"],
        key or client.get("client_secret"),
        token_endpoint_auth_method=client["token_endpoint_auth_method"],
        revocation_endpoint_auth_method=client["token_endpoint_auth_method"],
        scope="profile",
        redirect_uri=loopback.redirect_uri,
        code_challenge_method="S256",
    )
    session.register_client_auth_method(Assertion(alg=client.get("alg")))
    session.register_client_auth_method(SecretAssertion())
    code_verifier = generate_token(48)
    url, state = session.create_authorization_url(server["authorization_endpoint"], code_verifier=code_verifier)
    url = url.replace(f"client_id={client['client_id']}&", f"client_id={code_of}&")
    landed = loopback.visit(url)
    endpoint = server["token_endpoint"]
    token = session.fetch_token(endpoint, authorization_response=landed, state=state, code_verifier=code_verifier)
    refreshed = session.refresh_token(endpoint, token["refresh_token"])
    assert refreshed["refresh_token"] != token["refresh_token"]
    assert session.revoke_token(server["revocation_endpoint"], refreshed["refresh_token"]).status_code == 200


def resource(request):
    origin = f"http://{request.headers['host']}"
    if request.path.startswith("/.well-known/oauth-protected-resource"):
        metadata = {"resource": f"{origin}/mcp", "authorization_servers": [issuer]}
        return 200, {"content-type": "application/json"}, json.dumps(metadata).encode()
    status = 200 if request.headers.get("authorization") else 401
    return status, {"www-authenticate": "Bearer"}, b""


class Storage:
    def __init__(self, client: dict):
        known = {name: client[name] for name in ("client_id", "client_secret") if name in client}
        self.client = OAuthClientInformationFull(
            **known,
            issuer=issuer,
            redirect_uris=[loopback.redirect_uri],
            token_endpoint_auth_method=client["token_endpoint_auth_method"],
        )
        self.tokens = None

    async def get_tokens(self):
        return self.tokens

    async def set_tokens(self, tokens):
        self.tokens = tokens

    async def get_client_info(self):
        return self.client

    async def set_client_info(self, client_info):
        raise AssertionError("the client is known")


async def with_mcp(client: dict, code_of: str) -> None:
    """Redeems a code that was issued to the client `code_of`, and refreshes the tokens."""
    landed = []
    server_url = serve(resource) + "/mcp"

    async def redirect(url: str) -> None:
        url = url.replace(f"client_id={client['client_id']}&", f"client_id={code_of}&")
        landed.append(await asyncio.to_thread(loopback.visit, url))

    async def callback() -> AuthorizationCodeResult:
        answer = parameters(landed[-1])
        return AuthorizationCodeResult(code=answer["code"], state=answer["state"], iss=answer["iss"])

    storage = Storage(client)
    metadata = OAuthClientMetadata(redirect_uris=[loopback.redirect_uri])
    provider = OAuthClientProvider(server_url, metadata, storage, redirect, callback)
    async with httpx2.AsyncClient(auth=provider) as http:
        assert (await http.get(server_url)).status_code == 200
        first = storage.tokens
        # As if the access token had lived its life.
        provider.context.token_expiry_time = 1
        assert (await http.get(server_url)).status_code == 200
    assert len(landed) == 1, "a refresh needs no browser"
    assert storage.tokens.access_token != first.access_token


async def with_mcp_key(client: dict) -> str:
    """This SDK signs assertions for the client credentials grant only, which the server does not have. Says what the
    server answers to a client that has authenticated, and to one that has not."""
    client_id = client["client_id"]
    signer = SignedJWTParameters(
        issuer=client_id, subject=client_id, signing_key=client["pem"], signing_algorithm=client["alg"]
    )
    server_url = serve(resource) + "/mcp"
    provider = PrivateKeyJWTOAuthProvider(
        server_url, Storage(client), client_id, signer.create_assertion_provider(), issuer=issuer
    )
    async with httpx2.AsyncClient(auth=provider) as http:
        try:
            await http.get(server_url)
        except OAuthTokenError as error:
            return str(error)
    raise AssertionError("the server has no client credentials grant")


def impostor(client: dict) -> dict:
    """This client with credentials that are not its own."""
    match client["token_endpoint_auth_method"]:
        case "none":
            return client | {"client_id": "unknown"}
        case "private_key_jwt":
            return client | client["wrong"]
        case _:
            return client | {"client_secret": client["client_secret"] + "?"}


for client in remembered:
    client_id, method = client["client_id"], client["token_endpoint_auth_method"]
    wrong = [impostor(client)]
    if method != "none":
        # Without credentials, an id is not enough.
        wrong.append({"client_id": client_id, "token_endpoint_auth_method": "none"})
    if method == "client_secret_jwt":
        wrong.append(client)
    else:
        with_authlib(client, client_id)
    for impostors in wrong:
        try:
            with_authlib(impostors, client_id)
        except OAuthError as error:
            assert error.error == "invalid_client", (client_id, error)
        else:
            raise AssertionError(f"an impostor of {client_id} got tokens")

    if method == "private_key_jwt":
        answer = asyncio.run(with_mcp_key(client))
        assert "(400)" in answer and "unsupported_grant_type" in answer, answer
        answer = asyncio.run(with_mcp_key(impostor(client)))
        assert "(401)" in answer and "invalid_client" in answer, answer
    elif method != "client_secret_jwt":
        asyncio.run(with_mcp(client, client_id))
        for impostors in wrong:
            try:
                asyncio.run(with_mcp(impostors, client_id))
            except OAuthTokenError as error:
                assert "(401)" in str(error) and "invalid_client" in str(error), (client_id, error)
            else:
                raise AssertionError(f"an impostor of {client_id} got tokens")

print("client_id of every method")
