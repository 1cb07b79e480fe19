// openid-client, oauth4webapi and the MCP TypeScript SDK authenticate by every method that they have.
import { done, issuer, loopback, remembered } from './client.mjs';
import { method } from './methods.mjs';
import assert from 'node:assert/strict';
import {
  discoverAuthorizationServerMetadata,
  exchangeAuthorization,
  refreshAuthorization,
} from '@modelcontextprotocol/sdk/client/auth.js';
import { createPrivateKeyJwtAuth } from '@modelcontextprotocol/sdk/client/auth-extensions.js';
import * as oauth from 'oauth4webapi';
import * as openid from 'openid-client';

const { redirectUri, visit } = await loopback();
const insecure = { [oauth.allowInsecureRequests]: true };

async function authorize({ client_id }) {
  const codeVerifier = oauth.generateRandomCodeVerifier();
  const url = new URL(`${issuer}/authorize`);
  url.search = new URLSearchParams({
    client_id,
    response_type: 'code',
    redirect_uri: redirectUri,
    scope: 'profile',
    code_challenge: await oauth.calculatePKCECodeChallenge(codeVerifier),
    code_challenge_method: 'S256',
  });
  return { codeVerifier, landed: await visit(url) };
}

/** Each redeems a code and refreshes the tokens, and those that can revoke them. */
const libraries = {
  async 'openid-client'(client, { codeVerifier, landed }) {
    const options = { algorithm: 'oauth2', execute: [openid.allowInsecureRequests] };
    const authentication = await method(openid, client);
    const config = await openid.discovery(new URL(issuer), client.client_id, {}, authentication, options);
    const tokens = await openid.authorizationCodeGrant(config, landed, { pkceCodeVerifier: codeVerifier });
    const refreshed = await openid.refreshTokenGrant(config, tokens.refresh_token);
    await openid.tokenRevocation(config, refreshed.refresh_token);
    await assert.rejects(openid.refreshTokenGrant(config, refreshed.refresh_token), { error: 'invalid_grant' });
  },

  async oauth4webapi(client, { codeVerifier, landed }) {
    const identifier = new URL(issuer);
    const discovered = await oauth.discoveryRequest(identifier, { algorithm: 'oauth2', ...insecure });
    const server = await oauth.processDiscoveryResponse(identifier, discovered);
    const authentication = await method(oauth, client);
    const parameters = oauth.validateAuthResponse(server, client, landed, oauth.expectNoState);
    const redeemed = await oauth.authorizationCodeGrantRequest(
      server, client, authentication, parameters, redirectUri, codeVerifier, insecure,
    );
    const tokens = await oauth.processAuthorizationCodeResponse(server, client, redeemed);
    const renewed = await oauth.refreshTokenGrantRequest(
      server, client, authentication, tokens.refresh_token, insecure,
    );
    const refreshed = await oauth.processRefreshTokenResponse(server, client, renewed);
    const revoked = await oauth.revocationRequest(server, client, authentication, refreshed.refresh_token, insecure);
    await oauth.processRevocationResponse(revoked);
  },

  async 'MCP TypeScript SDK'(client, { codeVerifier, landed }) {
    const { client_id, token_endpoint_auth_method, client_secret, alg, jwk } = client;
    const isAssertion = token_endpoint_auth_method.endsWith('_jwt');
    const privateKey = jwk ?? client_secret;
    const common = {
      metadata: await discoverAuthorizationServerMetadata(issuer),
      clientInformation: { client_id, token_endpoint_auth_method, client_secret },
      addClientAuthentication: isAssertion
        ? createPrivateKeyJwtAuth({ issuer: client_id, subject: client_id, privateKey, alg: alg ?? 'HS256' })
        : undefined,
    };
    const authorizationCode = landed.searchParams.get('code');
    const tokens = await exchangeAuthorization(issuer, { ...common, authorizationCode, codeVerifier, redirectUri });
    await refreshAuthorization(issuer, { ...common, refreshToken: tokens.refresh_token });
  },
};

/** The error code that a library reports. Of an answer with a challenge the first two read the challenge only. */
async function reported(error) {
  if (error instanceof oauth.WWWAuthenticateChallengeError) {
    assert.deepEqual([error.status, error.cause[0].scheme], [401, 'basic']);
    return (await error.response.json()).error;
  }
  return error.errorCode ?? error.error ?? error;
}

/** This client with credentials that are not its own. */
function impostor(client) {
  switch (client.token_endpoint_auth_method) {
    case 'none':
      return { ...client, client_id: 'unknown' };
    case 'private_key_jwt':
      return { ...client, ...client.wrong };
    default:
      return { ...client, client_secret: `${client.client_secret}?` };
  }
}

for (const [name, run] of Object.entries(libraries)) {
  for (const client of remembered) {
    const label = `${name}, ${client.client_id}`;
    const refused = async (wrong) => {
      const error = await run(wrong, await authorize(client)).then(() => assert.fail(label), (error) => error);
      assert.equal(await reported(error), 'invalid_client', label);
    };
    if (client.token_endpoint_auth_method === 'client_secret_jwt') {
      await refused(client);
      continue;
    }
    await run(client, await authorize(client)).catch((error) => assert.fail(`${label}: ${error}: ${error.cause}`));
    await refused(impostor(client));
    // Without credentials, an id is not enough.
    if (client.token_endpoint_auth_method !== 'none') {
      await refused({ client_id: client.client_id, token_endpoint_auth_method: 'none' });
    }
  }
}
done('of every method');
