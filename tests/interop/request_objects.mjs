// openid-client and oauth4webapi push requests, sign them, and do both.
import { done, issuer, loopback, remembered } from './client.mjs';
import { IMPORT, method } from './methods.mjs';
import assert from 'node:assert/strict';
import * as oauth from 'oauth4webapi';
import * as openid from 'openid-client';

const { redirectUri, visit } = await loopback();
const insecure = { [oauth.allowInsecureRequests]: true };

async function signingKey({ alg, jwk: { kid, ...rest } }) {
  return { key: await crypto.subtle.importKey('jwk', rest, IMPORT[alg], false, ['sign']), kid };
}

/** What a request asks for, and what the token endpoint needs to know. */
async function asked() {
  const pkceCodeVerifier = oauth.generateRandomCodeVerifier();
  const expectedState = oauth.generateRandomState();
  const parameters = {
    redirect_uri: redirectUri,
    scope: 'profile',
    state: expectedState,
    code_challenge: await oauth.calculatePKCECodeChallenge(pkceCodeVerifier),
    code_challenge_method: 'S256',
  };
  return { parameters, checks: { pkceCodeVerifier, expectedState } };
}

/** A request URI leads to one code. */
async function refusesASecondCode(url) {
  const again = await fetch(url, { redirect: 'manual' });
  assert.deepEqual([again.status, (await again.json()).error], [400, 'invalid_request_uri']);
}

const libraries = {
  async 'openid-client'(client, { pushes, signs }) {
    const options = { algorithm: 'oauth2', execute: [openid.allowInsecureRequests] };
    const authentication = await method(openid, client);
    const config = await openid.discovery(new URL(issuer), client.client_id, {}, authentication, options);
    const { parameters, checks } = await asked();
    let url;
    if (signs) {
      url = await openid.buildAuthorizationUrlWithJAR(config, parameters, await signingKey(client));
      if (pushes) {
        url = await openid.buildAuthorizationUrlWithPAR(config, url.searchParams);
      }
    } else {
      url = await openid.buildAuthorizationUrlWithPAR(config, parameters);
    }
    const tokens = await openid.authorizationCodeGrant(config, await visit(url), checks);
    assert.equal(tokens.scope, 'profile');
    if (pushes) {
      await refusesASecondCode(url);
    }
  },

  async oauth4webapi(client, { pushes, signs }) {
    const identifier = new URL(issuer);
    const discovered = await oauth.discoveryRequest(identifier, { algorithm: 'oauth2', ...insecure });
    const server = await oauth.processDiscoveryResponse(identifier, discovered);
    const authentication = await method(oauth, client);
    const { parameters, checks } = await asked();
    let sent = new URLSearchParams({ client_id: client.client_id, response_type: 'code', ...parameters });
    if (signs) {
      const request = await oauth.issueRequestObject(server, client, sent, await signingKey(client));
      sent = new URLSearchParams({ client_id: client.client_id, request });
    }
    if (pushes) {
      const response = await oauth.pushedAuthorizationRequest(server, client, authentication, sent, insecure);
      const { request_uri } = await oauth.processPushedAuthorizationResponse(server, client, response);
      sent = new URLSearchParams({ client_id: client.client_id, request_uri });
    }
    const url = new URL(`${server.authorization_endpoint}?${sent}`);
    const landed = oauth.validateAuthResponse(server, client, await visit(url), checks.expectedState);
    const redeemed = await oauth.authorizationCodeGrantRequest(
      server, client, authentication, landed, redirectUri, checks.pkceCodeVerifier, insecure,
    );
    const tokens = await oauth.processAuthorizationCodeResponse(server, client, redeemed);
    assert.equal(tokens.scope, 'profile');
    if (pushes) {
      await refusesASecondCode(url);
    }
  },
};

for (const [name, run] of Object.entries(libraries)) {
  for (const client of remembered.filter((client) => client.token_endpoint_auth_method !== 'client_secret_jwt')) {
    const ways = client.alg ? [[true, false], [false, true], [true, true]] : [[true, false]];
    for (const [pushes, signs] of ways) {
      const label = `${name}, ${client.client_id}, ${pushes ? 'pushed' : ''} ${signs ? 'signed' : ''}`;
      await run(client, { pushes, signs }).catch((error) => assert.fail(`${label}: ${error}: ${error.cause}`));
    }
  }
}
done('pushed and signed');
