// Pages for requests that are refused without telling the application.
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { join } from 'node:path';
import { test } from 'node:test';
import { application, authorizationServer, clientsFile, heading, query, scratch, serve, visit } from './world.mjs';

const form = (attribute, clientId) =>
  `<form method="post" ${attribute}><input name="client_id" value="${clientId}"><button>Go</button></form>`;
const app = await application({
  // Forms as another site can make them.
  '/post/text': form('enctype="text/plain"', 'photo-app'),
  '/post/multipart': form('enctype="multipart/form-data"', 'photo-app'),
  '/post/large': form('', 'x'.repeat(70_000)),
  '/post/repeated': form('', 'photo-app'),
});
const redirect_uris = [app.callback];
const issuer = await authorizationServer(
  clientsFile([
    { client_id: 'photo-app', redirect_uris },
    { client_id: 'two-uris', redirect_uris: [app.callback, 'https://photos.example/callback'] },
    { client_id: 'disabled', redirect_uris, disabled: true },
    { client_id: 'revoked', redirect_uris, revoked: true },
    { client_id: 'expired', redirect_uris, expires_at: 1_000_000_000 },
    { client_id: 'stranger', redirect_uris, dynamic: true },
    { client_id: 'native-stranger', redirect_uris: ['com.example.app:/cb?%3Cb%3E'], dynamic: true },
  ]),
  '--insecure-loopback-documents',
);
const failing = await serve((request, response) => {
  response.statusCode = 500;
  response.end();
});

const usual = { response_type: 'code', client_id: 'photo-app', redirect_uri: app.callback, state: 'xyz' };
/** What an attacker would love to see on the page, the best as a link. */
const evil = 'https://attacker.example/call-0900-555-now';
const MADE_BY_APPLICATION = 'The application that sent you here made a request that this server cannot accept.';
const UNKNOWN = 'The application that sent you here is not known to this server.';
const LATER = 'The server cannot look up the application at the moment.';
const BROKEN = 'Something is wrong with this server.';

async function check(page, response, { status, error, says = MADE_BY_APPLICATION }) {
  assert.equal(response.status(), status);
  assert.equal(response.headers()['content-type'], 'text/html; charset=utf-8');
  assert.equal(await page.title(), 'Sign-in could not continue');
  assert.equal(await heading(page), 'Sign-in could not continue');
  const text = await page.getByRole('main').innerText();
  for (const shown of [says, 'This is not your fault', error, `(${status})`])
    assert.ok(text.includes(shown), `${shown}: ${text}`);
  assert.equal(await page.locator('a, area, form, iframe, img, button').count(), 0, 'nothing to press');
  assert.doesNotMatch(await page.content(), /attacker|0900/);
  assert.deepEqual(app.received, [], 'nothing is sent to the application');
}

const refused = (name, search, expected) =>
  test(`error page: ${name}`, () =>
    visit({}, async (page) => {
      const response = await page.goto(`${issuer}/authorize?${typeof search === 'string' ? search : query(search)}`);
      await check(page, response, expected);
    }));

const without = (name) => Object.fromEntries(Object.entries(usual).filter(([key]) => key !== name));
const badRequest = { status: 400, error: 'invalid_request' };
const badClient = { status: 400, error: 'invalid_client', says: UNKNOWN };
refused('no client_id', without('client_id'), badRequest);
refused('an empty client_id', { ...usual, client_id: '' }, badRequest);
refused('client_id twice', `${query(usual)}&client_id=${encodeURIComponent(evil)}`, badRequest);
refused('client_id that is not printable', { ...usual, client_id: `${evil}\n` }, badRequest);
refused('client_id that is no UTF-8', `${query(without('client_id'))}&client_id=%FF`, badRequest);
refused('an unknown client', { ...usual, client_id: evil.replace('https', 'x') }, badClient);
for (const client_id of ['disabled', 'revoked', 'expired'])
  refused(`a client that is ${client_id}`, { ...usual, client_id }, badClient);
refused('a foreign redirect_uri', { ...usual, redirect_uri: evil }, badRequest);
refused('a malformed redirect_uri', { ...usual, redirect_uri: `javascript:alert('${evil}')` }, badRequest);
refused('redirect_uri twice', `${query(usual)}&redirect_uri=${encodeURIComponent(evil)}`, badRequest);
refused('no redirect_uri where there are two', { ...without('redirect_uri'), client_id: 'two-uris' }, badRequest);
refused(
  'a registry that cannot answer now',
  { ...usual, client_id: `${failing}/document` },
  { status: 503, error: 'temporarily_unavailable', says: LATER },
);

for (const [path, name, expected] of [
  ['text', 'a form that is text/plain', badRequest],
  ['multipart', 'a form that is multipart', badRequest],
  ['large', 'a form over 64 KiB', { status: 413, error: 'invalid_request' }],
  ['repeated', 'client_id in the form and in the query', badRequest],
]) {
  test(`error page: ${name}`, () =>
    visit({}, async (page) => {
      await page.goto(`${app.origin}/post/${path}`);
      await page.locator('form').evaluate(
        (element, action) => {
          element.action = action;
        },
        `${issuer}/authorize?${query(usual)}`,
      );
      const [response] = await Promise.all([
        page.waitForResponse((response) => response.url().startsWith(issuer)),
        page.getByRole('button').click(),
      ]);
      await page.waitForLoadState();
      await check(page, response, expected);
    }));
}

for (const response_mode of ['query', 'form_post']) {
  test(`an error for a client that nobody vouches for waits for the user, by ${response_mode}`, () =>
    visit({}, async (page) => {
      const search = { ...usual, client_id: 'stranger', scope: 'another', response_mode };
      const response = await page.goto(`${issuer}/authorize?${query(search)}`);
      assert.equal(response.status(), 400);
      assert.equal(await heading(page), 'Sign-in could not continue');
      const text = await page.getByRole('main').innerText();
      assert.ok(text.includes('This is not your fault') && text.includes(new URL(app.callback).host), text);
      assert.equal(await page.locator('script, iframe, img').count(), 0);
      assert.deepEqual(app.received, [], 'nothing is sent by itself');
      assert.equal(await page.locator('a, button').count(), 1);
      await page.locator('a, button').click();
      await page.waitForURL((url) => url.href.startsWith(app.callback));
      const [{ error, state }] = app.received.splice(0);
      assert.deepEqual({ error, state }, { error: 'invalid_scope', state: 'xyz' });
    }));
}

test('the page for a private-use scheme names the scheme, escaped', () =>
  visit({}, async (page) => {
    const { redirect_uri, ...search } = { ...usual, client_id: 'native-stranger', scope: 'another' };
    await page.goto(`${issuer}/authorize?${query(search)}`);
    const link = page.locator('a');
    assert.match(await page.getByRole('main').innerText(), /com\.example\.app: links/);
    assert.ok((await link.getAttribute('href')).startsWith('com.example.app:/cb?%3Cb%3E&error=invalid_scope'));
    assert.equal(await page.locator('main b').count(), 0);
  }));

test('error page: a registry that is broken', () =>
  visit({}, async (page) => {
    const database = join(scratch, 'broken.sqlite');
    const issuer = await authorizationServer(`sqlite://${database}`);
    const drop = `
import sqlite3, sys
database = sqlite3.connect(sys.argv[1])
tables = "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%'"
for name, in database.execute(tables).fetchall():
    database.execute(f"DROP TABLE {name}")
database.commit()`;
    execFileSync('python3', ['-c', drop, database]);
    const response = await page.goto(`${issuer}/authorize?${query(usual)}`);
    await check(page, response, { status: 500, error: 'server_error', says: BROKEN });
  }));
