// The consent page: allow, deny, by keyboard too.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { application, authorizationServer, clientsFile, heading, query, visit } from './world.mjs';

const app = await application();
const issuer = await authorizationServer(
  clientsFile([
    { client_id: 'photo-app', client_name: 'Photo App', redirect_uris: [app.callback], scope: 'profile photos:read' },
  ]),
);
const url = `${issuer}/authorize?${query({
  response_type: 'code',
  client_id: 'photo-app',
  redirect_uri: app.callback,
  scope: 'photos:read',
  state: 'a b&c=é',
})}`;

async function isApproved(page) {
  await page.waitForURL(`${app.callback}?**`);
  const { method, code, state, iss, error } = app.received.pop();
  assert.deepEqual({ method, state, iss, error }, { method: 'GET', state: 'a b&c=é', iss: issuer, error: undefined });
  assert.match(code, /^.{20,}$/);
}

test('the consent page says who asks for what, and allowing sends the code back', () =>
  visit({}, async (page) => {
    const response = await page.goto(url);
    assert.equal(response.status(), 200);
    assert.equal(await heading(page), 'Allow Photo App?');
    assert.equal(await page.title(), 'Allow Photo App?');
    const text = await page.getByRole('main').innerText();
    for (const shown of ['photos:read', new URL(app.origin).host, 'photo-app']) assert.ok(text.includes(shown), shown);
    assert.deepEqual(app.received, [], 'nothing is sent before the user decides');
    await page.getByRole('button', { name: 'Allow' }).click();
    await isApproved(page);
  }));

test('denying sends access_denied back', () =>
  visit({}, async (page) => {
    await page.goto(url);
    await page.getByRole('button', { name: 'Deny' }).click();
    await page.waitForURL(`${app.callback}?**`);
    const { error, state, iss, code } = app.received.pop();
    assert.deepEqual(
      { error, state, iss, code },
      { error: 'access_denied', state: 'a b&c=é', iss: issuer, code: undefined },
    );
  }));

test('neither the page of the application nor its server learns where the user came from', () =>
  visit({}, async (page) => {
    await page.goto(url);
    await page.getByRole('button', { name: 'Allow' }).click();
    await page.waitForURL(`${app.callback}?**`);
    assert.equal(app.received.pop().headers.referer, undefined);
    assert.equal(await page.evaluate(() => document.referrer), '');
  }));

for (const javaScriptEnabled of [true, false]) {
  test(`a keyboard is enough, ${javaScriptEnabled ? 'with' : 'without'} scripts`, () =>
    visit({ javaScriptEnabled }, async (page) => {
      await page.goto(url);
      const allow = page.getByRole('button', { name: 'Allow' });
      const deny = page.getByRole('button', { name: 'Deny' });
      const isFocused = (button) => button.evaluate((element) => element === document.activeElement);
      await page.keyboard.press('Tab');
      assert.ok(await isFocused(allow));
      const outline = await allow.evaluate((element) => {
        const { outlineStyle, outlineWidth } = getComputedStyle(element);
        return { outlineStyle, width: parseFloat(outlineWidth) };
      });
      assert.ok(outline.outlineStyle !== 'none' && outline.width >= 2, `the focus shows: ${JSON.stringify(outline)}`);
      await page.keyboard.press('Tab');
      assert.ok(await isFocused(deny));
      await page.keyboard.press('Shift+Tab');
      await page.keyboard.press('Enter');
      await isApproved(page);
    }));
}
