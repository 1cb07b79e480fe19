// The back button, pages that are used twice, and decisions that others make.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { application, authorizationServer, clientsFile, heading, query, visit } from './world.mjs';

const links = {};
const app = await application(links);
const issuer = await authorizationServer(
  clientsFile([{ client_id: 'photo-app', client_name: 'Photo App', redirect_uris: [app.callback], scope: 'profile' }]),
);
const authorize = (parameters) => {
  const usual = { response_type: 'code', client_id: 'photo-app', redirect_uri: app.callback };
  return `${issuer}/authorize?${query({ ...usual, ...parameters })}`;
};
const link = (url) => `<h1>Photo App</h1><a href="${url.replaceAll('&', '&amp;')}">Log in</a>`;
links['/'] = link(authorize({}));
links['/form-post'] = link(authorize({ response_mode: 'form_post' }));
links['/unknown'] = link(authorize({ client_id: 'nobody' }));
links['/wrong-scope'] = link(authorize({ scope: 'another' }));
links['/wrong-scope-form-post'] = link(authorize({ scope: 'another', response_mode: 'form_post' }));

const logIn = async (page, path) => {
  await page.goto(app.origin + path);
  await page.getByRole('link').click();
};
const allow = (page) => page.getByRole('button', { name: 'Allow', exact: true }).click();
const atApplication = (page) => page.waitForURL((url) => url.href.startsWith(app.callback));
const taken = () => app.received.splice(0);

for (const path of ['/', '/form-post']) {
  test(`going back after allowing asks again and sends nothing by itself, from ${path}`, () =>
    visit({}, async (page) => {
      await logIn(page, path);
      await allow(page);
      await atApplication(page);
      const [first, ...more] = taken();
      assert.ok(first.code && more.length === 0);

      await page.goBack();
      assert.equal(await heading(page), 'Allow Photo App?');
      assert.deepEqual(taken(), []);
      await allow(page);
      await atApplication(page);
      const [second] = taken();
      assert.ok(second.code);
      assert.notEqual(second.code, first.code);

      await page.goBack();
      await page.goBack();
      assert.equal(await heading(page), 'Photo App');
      assert.deepEqual(taken(), []);
    }));
}

test('going back from an error page, and forward again', () =>
  visit({}, async (page) => {
    await logIn(page, '/unknown');
    assert.equal(await heading(page), 'Sign-in could not continue');
    await page.goBack();
    assert.equal(await heading(page), 'Photo App');
    await page.goForward();
    assert.equal(await heading(page), 'Sign-in could not continue');
    assert.deepEqual(taken(), []);
  }));

for (const path of ['/wrong-scope', '/wrong-scope-form-post']) {
  test(`going back from an error that the application got leads to where it began, from ${path}`, () =>
    visit({}, async (page) => {
      await logIn(page, path);
      await atApplication(page);
      assert.deepEqual(
        taken().map(({ error }) => error),
        ['invalid_scope'],
      );
      await page.goBack();
      assert.equal(await heading(page), 'Photo App');
      assert.deepEqual(taken(), []);
    }));
}

// What the back button shows where the browser kept the page as it was, which Playwright cannot drive.
test('a page that is answered twice sends two different codes', () =>
  visit({}, async (page) => {
    await page.goto(authorize({}));
    const [popup] = await Promise.all([
      page.waitForEvent('popup'),
      page.locator('form').evaluate((form) => {
        form.target = '_blank';
        form.requestSubmit(form.querySelector('button[value=approve]'));
        form.target = '';
      }),
    ]);
    await atApplication(popup);
    const [first] = taken();
    await allow(page);
    await atApplication(page);
    const [second] = taken();
    assert.ok(first.code && second.code && first.code !== second.code);
  }));

test('another site cannot answer for the user', () =>
  visit({}, async (page) => {
    const consent = await (await fetch(authorize({}))).text();
    const [, sealed] = consent.match(/name="sealed_request" value="([^"]+)"/);
    links['/attack'] =
      `<form method="post" action="${issuer}/consent"><input type="hidden" name="sealed_request" value="${sealed}">
    <button name="decision" value="approve">A free phone</button></form>`;
    // Another site, not only another port.
    await page.goto(`${app.origin.replace('127.0.0.1', 'localhost')}/attack`);
    await page.getByRole('button').click();
    await page.waitForURL(`${issuer}/consent`);
    assert.equal(await heading(page), 'This answer was not accepted');
    await page.goto(`${app.origin}/attack`);
    await page.getByRole('button').click();
    await page.waitForURL(`${issuer}/consent`);
    assert.equal(await heading(page), 'This answer was not accepted');
    assert.deepEqual(taken(), []);
  }));
