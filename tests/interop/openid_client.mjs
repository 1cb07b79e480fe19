// openid-client, confidential, and step by step: it asks for more scopes than it registered.
import { done, issuer, loopback, remember, remembered } from './client.mjs';
import assert from 'node:assert/strict';
import * as oauth from 'openid-client';

const { redirectUri, visit } = await loopback();
const options = { algorithm: 'oauth2', execute: [oauth.allowInsecureRequests] };

let config;
if (remembered) {
  const { client_id, client_secret } = remembered;
  config = await oauth.discovery(new URL(issuer), client_id, {}, oauth.ClientSecretBasic(client_secret), options);
} else {
  const metadata = {
    client_name: 'openid-client',
    redirect_uris: [redirectUri],
    grant_types: ['authorization_code', 'refresh_token'],
    scope: 'profile',
  };
  config = await oauth.dynamicClientRegistration(new URL(issuer), metadata, undefined, options);
  const { client_id, client_secret, client_secret_expires_at } = config.clientMetadata();
  assert.equal(client_secret_expires_at, 0);
  remember({ client_id, client_secret });
}

async function authorize(scope) {
  const pkceCodeVerifier = oauth.randomPKCECodeVerifier();
  const expectedState = oauth.randomState();
  const url = oauth.buildAuthorizationUrl(config, {
    redirect_uri: redirectUri,
    scope,
    state: expectedState,
    code_challenge: await oauth.calculatePKCECodeChallenge(pkceCodeVerifier),
    code_challenge_method: 'S256',
  });
  return oauth.authorizationCodeGrant(config, await visit(url), { pkceCodeVerifier, expectedState });
}

assert.equal((await authorize('profile')).scope, 'profile');
const tokens = await authorize('profile photos:read photos:write');
assert.equal(tokens.scope, 'profile photos:read photos:write');
const refreshed = await oauth.refreshTokenGrant(config, tokens.refresh_token);
assert.notEqual(refreshed.access_token, tokens.access_token);
assert.notEqual(refreshed.refresh_token, tokens.refresh_token);
await assert.rejects(oauth.refreshTokenGrant(config, tokens.refresh_token), { error: 'invalid_grant' });
done(config.clientMetadata().client_id);
