// Makes a client for each authentication method: REGISTRY-FILE gets what the server knows, STATE-FILE what they know.
import { webcrypto } from 'node:crypto';
import { writeFileSync } from 'node:fs';

const [registryFile, stateFile] = process.argv.slice(2);
const { subtle } = globalThis.crypto ?? webcrypto;

const ALGORITHMS = {
  ES256: { name: 'ECDSA', namedCurve: 'P-256' },
  EdDSA: { name: 'Ed25519' },
  PS256: { name: 'RSA-PSS', hash: 'SHA-256', modulusLength: 2048, publicExponent: new Uint8Array([1, 0, 1]) },
  RS256: { name: 'RSASSA-PKCS1-v1_5', hash: 'SHA-256', modulusLength: 2048, publicExponent: new Uint8Array([1, 0, 1]) },
};

/** A key pair as JSON Web Keys, and the private one also as PEM. */
async function keyPair(alg, kid) {
  const { privateKey, publicKey } = await subtle.generateKey(ALGORITHMS[alg], true, ['sign', 'verify']);
  const exported = async (key) => {
    const { kty, crv, x, y, n, e, d, p, q, dp, dq, qi } = await subtle.exportKey('jwk', key);
    return { kty, crv, x, y, n, e, d, p, q, dp, dq, qi, kid };
  };
  const der = Buffer.from(await subtle.exportKey('pkcs8', privateKey)).toString('base64');
  const pem = `-----BEGIN PRIVATE KEY-----\n${der.match(/.{1,64}/g).join('\n')}\n-----END PRIVATE KEY-----\n`;
  return { public: await exported(publicKey), private: await exported(privateKey), pem };
}

const known = [];
const own = [];
function add(client_id, token_endpoint_auth_method, credentials, registered = credentials) {
  const client = { client_id, token_endpoint_auth_method };
  own.push({ ...client, ...credentials });
  known.push({
    ...client,
    ...registered,
    redirect_uris: ['http://127.0.0.1/callback'],
    grant_types: ['authorization_code', 'refresh_token'],
    scope: 'profile',
  });
}

// Form encoding changes it, which some clients do and some do not.
const client_secret = 'a secret+with/%25=characters:';
add('public', 'none', {});
add('basic', 'client_secret_basic', { client_secret });
add('post', 'client_secret_post', { client_secret });
add('secret-jwt', 'client_secret_jwt', { client_secret });
for (const alg of Object.keys(ALGORITHMS)) {
  const [right, wrong] = [await keyPair(alg, alg), await keyPair(alg, alg)];
  const credentials = { alg, jwk: right.private, pem: right.pem, wrong: { jwk: wrong.private, pem: wrong.pem } };
  add(`jwt-${alg}`, 'private_key_jwt', credentials, { jwks: { keys: [right.public] } });
}
writeFileSync(registryFile, JSON.stringify(known, undefined, 2));
writeFileSync(stateFile, JSON.stringify(own, undefined, 2));
