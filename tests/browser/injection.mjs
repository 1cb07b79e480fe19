// Markup in everything that strangers choose, what the policy of each page holds off, and frames around the pages.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { application, authorizationServer, clientsFile, heading, query, serve, visit } from './world.mjs';

const run = `pwned(document.URL)`;
const markup =
  `"'></title></style></noscript></script><script>${run}</script><img src="x" onerror="${run}">` +
  `<svg onload='${run}'><iframe srcdoc="<script>parent.${run}</script>"></iframe><a href="javascript:${run}">`;
/** A scope token may hold neither quotes nor spaces. */
const scopeMarkup = `</code></title><script>${run}</script><svg/onload=${run}><img/src=x/onerror=${run}>`;
/** All that a URI may hold. */
const uriMarkup = `?q='/autofocus/onfocus='${run}'&quot;&lt;script&gt;${run}`;

const app = await application();
const documents = await serve((request, response) => {
  const client_id = `${documents}${request.url}`;
  response.setHeader('content-type', 'application/json');
  response.end(
    JSON.stringify({
      client_id,
      client_name: markup,
      redirect_uris: [app.callback],
      token_endpoint_auth_method: 'none',
    }),
  );
});
const hostile = { client_id: markup, client_name: markup, redirect_uris: [`${app.callback}${uriMarkup}`], scope: '*' };
const issuer = await authorizationServer(
  clientsFile([
    { client_id: 'photo-app', client_name: 'Photo App', redirect_uris: [app.callback], scope: '*' },
    hostile,
  ]),
  '--registration',
  'open',
  '--insecure-loopback-documents',
);
const usual = {
  response_type: 'code',
  client_id: 'photo-app',
  redirect_uri: app.callback,
  scope: 'profile',
  state: 'xyz',
};
const authorize = (parameters) => `${issuer}/authorize?${query({ ...usual, ...parameters })}`;

/** A page in which nothing may call `pwned`, nor try to: the console would say so. */
const guarded = (use) =>
  visit({}, async (page, problems) => {
    const calls = [];
    await page.exposeFunction('pwned', (where) => calls.push(where));
    await use(page, problems);
    await page.waitForLoadState();
    assert.deepEqual(calls, []);
  });

/** The application gets what it sent, as it was. */
async function arrives(page, state) {
  await page.waitForURL((url) => url.href.startsWith(app.callback));
  assert.equal(app.received.length, 1);
  const received = app.received.pop();
  assert.equal(received.state, state);
  return received;
}

async function allow(page, state) {
  const button = page.getByRole('button', { name: 'Allow', exact: true });
  assert.equal(await page.locator('script, img, svg, iframe, a, [onfocus]').count(), 0);
  await button.click();
  return arrives(page, state);
}

const parameters = [
  'client_id',
  'redirect_uri',
  'response_type',
  'response_mode',
  'scope',
  'state',
  'nonce',
  'code_challenge',
  'code_challenge_method',
  'resource',
  'request',
  'request_uri',
  'prompt',
  markup,
];
for (const name of parameters) {
  // Refused on a page, by form post, or allowed: that is not the question here.
  for (const response_mode of [undefined, 'form_post']) {
    const shown = name === markup ? 'a parameter of that name' : name;
    test(`markup in ${shown}, answer ${response_mode ?? 'as usual'}`, () =>
      guarded(async (page) => {
        await page.goto(authorize({ ...(response_mode && { response_mode }), [name]: markup }));
        const where = page.url().startsWith(issuer) ? await heading(page).catch(() => '') : '';
        if (where.startsWith('Allow')) await allow(page, name === 'state' ? markup : 'xyz');
        else if (where === 'Sign-in could not continue')
          assert.equal(await page.locator('script, img, svg, iframe, a').count(), 0);
        else await arrives(page, name === 'state' ? markup : 'xyz');
      }));
  }
}

test('markup in the error pages of a form', () =>
  guarded(async (page) => {
    const form = await serve((request, response) => {
      response.setHeader('content-type', 'text/html; charset=utf-8');
      const escaped = `unknown ${markup}`.replaceAll('&', '&amp;').replaceAll('"', '&quot;');
      response.end(`<!DOCTYPE html><link rel="icon" href="data:,"><form method="post" action="${issuer}/authorize">
      <input name="client_id" value="${escaped}"><button>Go</button></form>`);
    });
    await page.goto(form);
    await page.getByRole('button').click();
    await page.waitForURL(`${issuer}/authorize`);
    assert.equal(await heading(page), 'Sign-in could not continue');
  }));

for (const response_mode of ['query', 'form_post']) {
  test(`markup in a client, its scope, resource and state, answer by ${response_mode}`, () =>
    guarded(async (page) => {
      const resource = `https://api.example/${uriMarkup}`;
      await page.goto(
        authorize({
          client_id: markup,
          redirect_uri: hostile.redirect_uris[0],
          response_mode,
          scope: scopeMarkup,
          resource,
          state: markup,
          nonce: markup,
        }),
      );
      const text = await page.getByRole('main').innerText();
      for (const shown of ['<script>', scopeMarkup, resource])
        assert.ok(text.includes(shown), `${shown} is shown as text: ${text}`);
      await allow(page, markup);
      // Bytes for bytes: nothing of the redirect URI became markup, nothing was lost.
      if (response_mode === 'form_post') assert.equal(page.url(), new URL(hostile.redirect_uris[0]).href);
    }));
}

test('markup in the name of a client that registered itself', () =>
  guarded(async (page) => {
    const registered = await fetch(`${issuer}/register`, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify({ client_name: markup, redirect_uris: [app.callback], token_endpoint_auth_method: 'none' }),
    });
    const { client_id, client_name, error_description } = await registered.json();
    assert.equal(registered.status, 201, error_description);
    assert.equal(client_name, markup);
    await page.goto(authorize({ client_id }));
    assert.ok((await heading(page)).includes('<script>'));
    await allow(page, 'xyz');
  }));

test('markup in the name and the address of a metadata document', () =>
  guarded(async (page) => {
    // In the path: there a quote is fetched as it stands.
    const client_id = `${documents}/document${uriMarkup.replace('?', '/')}`;
    await page.goto(authorize({ client_id }));
    assert.ok((await heading(page)).includes('<script>'));
    const text = await page.getByRole('main').innerText();
    assert.ok(text.includes(client_id), text);
    await allow(page, 'xyz');
  }));

// An answer of 204 leaves the page that posts itself in view.
const stay = await serve((request, response) => {
  response.statusCode = 204;
  response.end();
});
const staying = await authorizationServer(
  clientsFile([{ client_id: 'photo-app', redirect_uris: [`${stay}/callback`] }]),
);
const at = (parameters) =>
  `${staying}/authorize?${query({ response_type: 'code', client_id: 'photo-app', redirect_uri: `${stay}/callback`, ...parameters })}`;
const kinds = [
  ['the consent page', at({})],
  ['an error page', at({ client_id: 'nobody' })],
  ['the page that posts itself', at({ scope: 'unknown', response_mode: 'form_post' })],
];

for (const [name, url] of kinds) {
  test(`the policy of ${name} holds even if markup got in`, () =>
    visit({}, async (page, problems) => {
      const calls = [];
      await page.exposeFunction('pwned', (where) => calls.push(where));
      // The page that posts itself never comes to rest.
      await page.goto(url, { waitUntil: 'commit' });
      await page.getByRole('heading').waitFor();
      const elsewhere = await serve((request, response) => {
        calls.push(request.url);
        response.end();
      });
      const tried = {
        'script-src-elem': [`<script>pwned('inline')</script>`, `<script src="${elsewhere}/script.js"></script>`],
        'script-src-attr': [`<img src="data:," onerror="pwned('attribute')">`],
        'img-src': [`<img src="${elsewhere}/image.png">`],
        'style-src-elem': [
          `<style>main { display: none }</style>`,
          `<link rel="stylesheet" href="${elsewhere}/style.css">`,
        ],
        'style-src-attr': ['<p style="display: none">styled</p>'],
        'frame-src': [`<iframe src="${elsewhere}/frame"></iframe>`],
        'base-uri': [`<base href="${elsewhere}/">`],
        'object-src': [`<object data="${elsewhere}/object"></object>`],
      };
      const violated = await page.evaluate(async (tried) => {
        const violated = new Set();
        const expected = Object.keys(tried).length;
        const done = new Promise((resolve) =>
          document.addEventListener('securitypolicyviolation', (event) => {
            if (violated.add(event.effectiveDirective).size === expected) resolve();
          }),
        );
        for (const html of Object.values(tried).flat()) {
          // Scripts run from a fragment, which they would not from innerHTML.
          document.body.append(document.createRange().createContextualFragment(html));
        }
        const bound = new Promise((resolve) => setTimeout(resolve, 20_000));
        await Promise.race([done, bound]);
        return [...violated].sort();
      }, tried);
      assert.deepEqual(violated, Object.keys(tried).sort());
      assert.ok(await page.getByRole('main').isVisible());
      assert.deepEqual(calls, []);
      // They say just that.
      assert.ok(
        problems.every((problem) => /Content Security Policy/.test(problem)),
        problems.join('\n'),
      );
      problems.length = 0;
    }));

  test(`no other page has ${name} in a frame`, () =>
    visit({}, async (page, problems) => {
      const outer = await application({
        '/': `<iframe title="framed" src="${url.replaceAll('&', '&amp;')}"></iframe>`,
      });
      const refused = page.waitForEvent('console', (message) => message.text().includes('frame-ancestors'));
      await page.goto(outer.origin);
      await refused;
      await page.waitForLoadState();
      const [, frame] = page.frames();
      assert.equal(await frame.locator('main').count(), 0);
      assert.equal(frame.url(), 'chrome-error://chromewebdata/');
      problems.length = 0;
    }));
}
