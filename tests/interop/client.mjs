// What the JavaScript clients share: a browser that asks nobody, a protected resource, and what a client remembers.
import assert from 'node:assert/strict';
import { webcrypto } from 'node:crypto';
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:http';

globalThis.crypto ??= webcrypto;

/**
 * SCRIPT ISSUER STATE-FILE [DOCUMENT-URL | forgotten]: a state file that exists is what an earlier run left behind.
 * Unless it is `forgotten`, the server still knows the client.
 */
const [issuer, stateFile, more] = process.argv.slice(2);
export { issuer };
export const forgotten = more === 'forgotten';
export const documentUrl = forgotten ? undefined : more;
export const remembered = existsSync(stateFile) ? JSON.parse(readFileSync(stateFile, 'utf8')) : undefined;
export const remember = (client) => writeFileSync(stateFile, JSON.stringify(client));

const servers = [];

async function serve(handler) {
  const server = createServer(handler);
  servers.push(server);
  await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));
  return `http://127.0.0.1:${server.address().port}`;
}

/** A redirect URI on a port of its own, and what visits the authorization endpoint and gives where that led. */
export async function loopback() {
  const landed = [];
  const origin = await serve((request, response) => {
    landed.push(request.url);
    response.end('You can close this page.');
  });
  const visit = async (url) => {
    const answer = await fetch(url);
    assert.equal(answer.status, 200, `${url}: ${await answer.text()}`);
    assert.equal(landed.length, 1, 'the authorization ends at the redirect URI');
    return new URL(landed.pop(), origin);
  };
  return { redirectUri: `${origin}/callback`, visit };
}

/** Protected resource metadata (RFC 9728) for a resource that nobody needs to fetch here. */
export async function resource() {
  const url = await serve((request, response) => {
    const isMetadata = request.url.startsWith('/.well-known/oauth-protected-resource');
    response.writeHead(isMetadata ? 200 : 401, { 'content-type': 'application/json' });
    response.end(isMetadata ? JSON.stringify({ resource: `${url}/mcp`, authorization_servers: [issuer] }) : '{}');
  });
  return `${url}/mcp`;
}

export function done(clientId) {
  servers.forEach((server) => server.close());
  console.log(`client_id ${clientId}`);
}
