// A login in front of the question, in the example `composed`.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { application, heading, query, start, visit } from './world.mjs';

const links = {};
const app = await application(links);
const issuer = await start('composed', '127.0.0.1:0');
const usual = {
  response_type: 'code',
  client_id: 'photo-app',
  redirect_uri: app.callback,
  scope: 'profile photos:read',
  state: 'a b&next=/&c=é',
};
const authorize = (parameters) => `${issuer}/authorize?${query({ ...usual, ...parameters })}`;
links['/'] = `<a href="${authorize({}).replaceAll('&', '&amp;')}">Log in</a>`;
// Another site than the server's, not only another port: that is what cookies go by.
const site = app.origin.replace('127.0.0.1', 'localhost');

async function logIn(page, password) {
  await page.getByLabel('Name').fill('ada');
  await page.getByLabel('Password').fill(password);
  await page.keyboard.press('Enter');
}

test('composed: a user logs in, comes back, is validated, allows, and need not log in again', () =>
  visit({}, async (page) => {
    await page.goto(site);
    await page.getByRole('link').click();
    assert.equal(await heading(page), 'Log in');
    await logIn(page, 'wrong');
    await page.getByRole('alert').waitFor();
    assert.equal(await heading(page), 'Log in');
    await logIn(page, 'enchantress');
    await page.waitForURL(authorize({}));
    assert.equal(await heading(page), 'Allow access?');
    const text = await page.getByRole('main').innerText();
    for (const shown of ['Photo App', 'ada', 'profile photos:read', app.callback])
      assert.ok(text.includes(shown), shown);
    assert.deepEqual(app.received, []);

    const expected = { state: usual.state, iss: issuer };
    const received = async () => {
      await page.waitForURL((url) => url.href.startsWith(app.callback));
      const { method, headers, ...parameters } = app.received.pop();
      return parameters;
    };
    await page.getByRole('button', { name: 'Allow' }).click();
    const { code, ...allowed } = await received();
    assert.ok(code);
    assert.deepEqual(allowed, expected);

    await page.goto(site);
    await page.getByRole('link').click();
    assert.equal(await heading(page), 'Allow access?');
    await page.getByRole('button', { name: 'Deny' }).click();
    const { error_description, ...denied } = await received();
    assert.deepEqual(denied, { error: 'access_denied', ...expected });
  }));

test('composed: a URL that leads nowhere asks nobody for a password', () =>
  visit({}, async (page) => {
    for (const wrong of [{ client_id: 'nobody' }, { redirect_uri: 'https://attacker.example/callback' }]) {
      const response = await page.goto(authorize(wrong));
      assert.equal(response.status(), 400);
      assert.equal(await heading(page), 'Sign-in could not continue');
    }
    assert.deepEqual(await page.context().cookies(), []);
  }));

test('composed: another site cannot allow for the user', () =>
  visit({}, async (page) => {
    await page.goto(authorize({}));
    await logIn(page, 'enchantress');
    await page.waitForURL(authorize({}));
    const sealed = await page.locator('input[name=sealed_request]').inputValue();
    links['/attack'] = `<form method="post" action="${issuer}/consent">
    <input type="hidden" name="sealed_request" value="${sealed}">
    <button name="decision" value="approve">A free phone</button></form>`;
    for (const origin of [site, app.origin]) {
      await page.goto(`${origin}/attack`);
      const [response] = await Promise.all([
        page.waitForResponse((response) => response.url().startsWith(issuer)),
        page.getByRole('button').click(),
      ]);
      assert.equal(response.status(), 403);
      assert.equal(await heading(page), 'This answer was not accepted');
    }
    assert.deepEqual(app.received, []);
  }));
