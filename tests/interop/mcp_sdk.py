"""The client of the MCP Python SDK, which wants a protected resource that lets it in."""

import asyncio
import json

import httpx2
from client import Loopback, document_url, issuer, parameters, remember, remembered, serve
from mcp.client.auth import AuthorizationCodeResult, OAuthClientProvider
from mcp.shared.auth import OAuthClientInformationFull, OAuthClientMetadata

presented: list[str] = []


def resource(request):
    origin = f"http://{request.headers['host']}"
    if request.path.startswith("/.well-known/oauth-protected-resource"):
        metadata = {"resource": f"{origin}/mcp", "authorization_servers": [issuer]}
        return 200, {"content-type": "application/json"}, json.dumps(metadata).encode()
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    if scheme != "Bearer":
        return 401, {"www-authenticate": "Bearer"}, b""
    presented.append(token)
    return 200, {}, b"let in"


class Storage:
    client = OAuthClientInformationFull.model_validate(remembered) if remembered else None
    tokens = None

    async def get_tokens(self):
        return self.tokens

    async def set_tokens(self, tokens):
        self.tokens = tokens

    async def get_client_info(self):
        return self.client

    async def set_client_info(self, client_info):
        self.client = client_info
        remember(client_info.model_dump(mode="json", exclude_none=True))


async def main():
    loopback = Loopback()
    landed = []

    async def redirect(url: str) -> None:
        landed.append(await asyncio.to_thread(loopback.visit, url))

    async def callback() -> AuthorizationCodeResult:
        answer = parameters(landed[-1])
        return AuthorizationCodeResult(code=answer["code"], state=answer["state"], iss=answer["iss"])

    server_url = serve(resource) + "/mcp"
    storage = Storage()
    provider = OAuthClientProvider(
        server_url=server_url,
        client_metadata=OAuthClientMetadata(
            client_name="MCP Python SDK",
            redirect_uris=[loopback.redirect_uri],
            grant_types=["authorization_code", "refresh_token"],
        ),
        storage=storage,
        redirect_handler=redirect,
        callback_handler=callback,
        client_metadata_url=document_url,
    )
    async with httpx2.AsyncClient(auth=provider) as http:
        assert (await http.get(server_url)).status_code == 200
        assert len(landed) == 1
        first = storage.tokens
        assert first.refresh_token, first
        # As if the access token had lived its life.
        provider.context.token_expiry_time = 1
        assert (await http.get(server_url)).status_code == 200
    assert len(landed) == 1, "a refresh needs no browser"
    assert presented == [first.access_token, storage.tokens.access_token]
    assert first.access_token != storage.tokens.access_token
    assert first.refresh_token != storage.tokens.refresh_token

    if remembered:
        assert storage.client.client_id == remembered["client_id"]
    if document_url:
        assert storage.client.client_id == document_url
    print("client_id", storage.client.client_id)


asyncio.run(main())
