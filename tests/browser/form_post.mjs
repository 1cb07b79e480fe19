// Answers that a page posts to the application.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { application, authorizationServer, clientsFile, heading, query, visit } from './world.mjs';

const app = await application();
const issuer = await authorizationServer(
  clientsFile([{ client_id: 'photo-app', client_name: 'Photo App', redirect_uris: [app.callback], scope: 'profile' }]),
);
const state = `<'"&amp;é+ %00`;
const usual = {
  response_type: 'code',
  client_id: 'photo-app',
  redirect_uri: app.callback,
  response_mode: 'form_post',
  state,
};
const accepted = `${issuer}/authorize?${query({ ...usual, scope: 'profile' })}`;
const refused = `${issuer}/authorize?${query({ ...usual, scope: 'another' })}`;

function isReceived(expected) {
  assert.equal(app.received.length, 1);
  const { method, headers, code, error_description, ...rest } = app.received.pop();
  assert.equal(method, 'POST');
  assert.equal(headers.referer, undefined);
  assert.equal(code === undefined, 'error' in expected);
  assert.deepEqual(rest, { state, iss: issuer, ...expected });
}

test('form_post: a code is posted by itself', () =>
  visit({}, async (page) => {
    await page.goto(accepted);
    await page.getByRole('button', { name: 'Allow' }).click();
    await page.waitForURL(app.callback);
    isReceived({});
  }));

test('form_post: an error is posted by itself', () =>
  visit({}, async (page) => {
    await page.goto(refused);
    await page.waitForURL(app.callback);
    isReceived({ error: 'invalid_scope' });
  }));

const presses = async (page) => {
  assert.equal(await heading(page), 'Back to the application');
  assert.ok(await page.locator('noscript p').isVisible(), 'it says why');
  assert.deepEqual(app.received, [], 'nothing is sent before the button is pressed');
  await page.keyboard.press('Tab');
  await page.keyboard.press('Enter');
  await page.waitForURL(app.callback);
};

test('form_post: a code goes by a button where scripts are off', () =>
  visit({ javaScriptEnabled: false }, async (page) => {
    await page.goto(accepted);
    await page.getByRole('button', { name: 'Allow' }).click();
    await presses(page);
    isReceived({});
  }));

test('form_post: an error goes by a button where scripts are off', () =>
  visit({ javaScriptEnabled: false }, async (page) => {
    await page.goto(refused);
    await presses(page);
    isReceived({ error: 'invalid_scope' });
  }));
