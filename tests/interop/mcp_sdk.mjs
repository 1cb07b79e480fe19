// The client of the MCP TypeScript SDK.
import { documentUrl, done, forgotten, issuer, loopback, remember, remembered, resource } from './client.mjs';
import assert from 'node:assert/strict';
import { auth } from '@modelcontextprotocol/sdk/client/auth.js';

const { redirectUri, visit } = await loopback();
const serverUrl = await resource();

let { client, tokens } = remembered ?? {};
let verifier;
let landed;
const provider = {
  redirectUrl: redirectUri,
  clientMetadataUrl: documentUrl,
  clientMetadata: {
    client_name: 'MCP TypeScript SDK',
    redirect_uris: [redirectUri],
    grant_types: ['authorization_code', 'refresh_token'],
    response_types: ['code'],
    token_endpoint_auth_method: 'none',
  },
  state: () => 'a state',
  clientInformation: () => client,
  saveClientInformation: (registered) => (client = registered),
  tokens: () => tokens,
  saveTokens: (issued) => (tokens = issued),
  // Called when the server says that it does not know the client, or the grant.
  invalidateCredentials: (scope) => {
    if (scope === 'all') client = undefined;
    tokens = undefined;
  },
  saveCodeVerifier: (made) => (verifier = made),
  codeVerifier: () => verifier,
  redirectToAuthorization: async (url) => (landed = await visit(url)),
};

assert.equal(await auth(provider, { serverUrl }), 'REDIRECT');
assert.equal(landed.searchParams.get('state'), 'a state');
assert.equal(landed.searchParams.get('iss'), issuer);
// The server does not keep its tokens; as long as it knows the client, that one comes back.
if (forgotten) assert.notEqual(client.client_id, remembered.client.client_id);
else if (remembered) assert.equal(client.client_id, remembered.client.client_id);
if (documentUrl) assert.equal(client.client_id, documentUrl);

const authorizationCode = landed.searchParams.get('code');
assert.equal(await auth(provider, { serverUrl, authorizationCode }), 'AUTHORIZED');
const first = tokens;
assert.ok(first.access_token && first.refresh_token, JSON.stringify(first));

landed = undefined;
assert.equal(await auth(provider, { serverUrl }), 'AUTHORIZED');
assert.equal(landed, undefined, 'a refresh needs no browser');
assert.notEqual(tokens.access_token, first.access_token);
assert.notEqual(tokens.refresh_token, first.refresh_token);
remember({ client, tokens });
done(client.client_id);
