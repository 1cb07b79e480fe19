// Every kind of page, as the tests of their looks and the pictures need them.
import { application, authorizationServer, clientsFile, query, start } from './world.mjs';

const app = await application();
const issuer = await authorizationServer(
  clientsFile([
    {
      client_id: 'photo-app',
      client_name: 'Photo App',
      scope: 'profile photos:read',
      trusted: true,
      redirect_uris: ['https://photos.example/callback', app.callback],
    },
    { client_id: 'desktop', client_name: 'Desktop App', redirect_uris: [app.callback], scope: 'profile' },
    {
      client_id: `a-long-id-${'x'.repeat(300)}`,
      client_name: 'Donaudampfschifffahrtsgesellschaft'.repeat(5),
      redirect_uris: [`https://${'long-name.'.repeat(10)}example/${'path'.repeat(50)}`],
      scope: '*',
    },
  ]),
  '--registration',
  'open',
);
const composed = await start('composed', '127.0.0.1:0');

const usual = {
  response_type: 'code',
  client_id: 'photo-app',
  redirect_uri: 'https://photos.example/callback',
  scope: 'profile photos:read',
};
const authorize = (parameters) => `${issuer}/authorize?${query({ ...usual, ...parameters })}`;
const at = (url) => (page) => page.goto(url);

async function logIn(page) {
  await page.goto(
    `${composed}/authorize?${query({ response_type: 'code', client_id: 'photo-app', redirect_uri: `${composed}/callback` })}`,
  );
  await page.getByLabel('Name').fill('ada');
  await page.getByLabel('Password').fill('enchantress');
  await page.getByRole('button').click();
  await page.getByRole('heading', { name: 'Allow access?' }).waitFor();
}

/** Name, and how to get there. */
export const pages = {
  consent: at(authorize({})),
  'consent-local': at(authorize({ client_id: 'desktop', redirect_uri: app.callback, scope: 'profile' })),
  'consent-long': at(
    `${issuer}/authorize?${query({
      response_type: 'code',
      client_id: `a-long-id-${'x'.repeat(300)}`,
      scope: `${'read'.repeat(60)} write`,
      resource: `https://api.example/${'x'.repeat(300)}`,
    })}`,
  ),
  error: at(authorize({ redirect_uri: 'https://photos.example/other' })),
  'error-unknown': at(authorize({ client_id: 'nobody' })),
  'form-post': at(authorize({ redirect_uri: app.callback, scope: 'another', response_mode: 'form_post' })),
  'used-before': async (page) => {
    await page.goto(authorize({}));
    await page.locator('input[name=sealed_request]').evaluate((input) => {
      input.value = 'another';
    });
    await page.getByRole('button', { name: 'Allow' }).click();
    await page.waitForURL(`${issuer}/consent`);
  },
  start: at(`${issuer}/`),
  callback: at(`${issuer}/demo/callback?code=${'x'.repeat(200)}&state=xyz`),
  'not-found': at(`${issuer}/nowhere`),
  login: at(`${composed}/login?next=/authorize?x`),
  'composed-consent': logIn,
};
