// How openid-client and oauth4webapi authenticate and sign, for the clients of credentials.mjs.
export const IMPORT = {
  ES256: { name: 'ECDSA', namedCurve: 'P-256' },
  EdDSA: { name: 'Ed25519' },
  PS256: { name: 'RSA-PSS', hash: 'SHA-256' },
  RS256: { name: 'RSASSA-PKCS1-v1_5', hash: 'SHA-256' },
};

/** How openid-client and oauth4webapi authenticate this client. */
export async function method(library, { token_endpoint_auth_method, client_secret, alg, jwk }) {
  switch (token_endpoint_auth_method) {
    case 'none':
      return library.None();
    case 'client_secret_basic':
      return library.ClientSecretBasic(client_secret);
    case 'client_secret_post':
      return library.ClientSecretPost(client_secret);
    case 'client_secret_jwt':
      return library.ClientSecretJwt(client_secret);
    default: {
      const { kid, ...rest } = jwk;
      const key = await crypto.subtle.importKey('jwk', rest, IMPORT[alg], false, ['sign']);
      return library.PrivateKeyJwt({ key, kid });
    }
  }
}
