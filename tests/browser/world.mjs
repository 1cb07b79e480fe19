// What the tests share: the browser, the examples as processes, and an application that people are sent back to.
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { chromium } from 'playwright-core';

// In a profile of its own that is gone afterwards.
export const browser = await chromium.launch({
  executablePath: process.env.CHROMIUM,
  args: [
    '--no-sandbox',
    '--disable-gpu',
    '--disable-quic',
    '--no-first-run',
    '--disable-background-networking',
    '--disable-component-update',
    '--disable-sync',
  ],
});
export const scratch = mkdtempSync(join(tmpdir(), 'browser-'));
const children = [];
const servers = [];

export async function cleanUp() {
  await browser.close();
  for (const child of children) child.kill();
  for (const server of servers) {
    server.closeAllConnections();
    server.close();
  }
  rmSync(scratch, { recursive: true });
}

/** Starts an example and gives the URL that it prints. */
export async function start(example, ...args) {
  const child = spawn(join(process.env.EXAMPLES, example), args, { cwd: scratch, stdio: ['ignore', 'pipe', 'pipe'] });
  children.push(child);
  let log = '';
  child.stderr.on('data', (chunk) => (log += chunk));
  for await (const line of createInterface(child.stdout)) {
    // What follows is not read, but must not fill the pipe either.
    child.stdout.resume();
    return line.replace('listening on ', '');
  }
  assert.fail(`${example} does not start: ${log}`);
}

const usual = ['--listen', '127.0.0.1:0', '--profile', 'oauth2', '--registry'];
export const authorizationServer = (registry, ...args) => start('authorization_server', ...usual, registry, ...args);

/** A file of clients for `authorizationServer`. */
export function clientsFile(clients) {
  const path = join(scratch, `clients-${servers.length}-${children.length}.json`);
  writeFileSync(path, JSON.stringify(clients));
  return path;
}

export async function serve(handler) {
  const server = createServer(handler);
  servers.push(server);
  await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));
  return `http://127.0.0.1:${server.address().port}`;
}

/** The application: shows a page at every address, and keeps what is sent to /callback. */
export async function application(pages = {}) {
  const received = [];
  const origin = await serve((request, response) => {
    let body = '';
    request.on('data', (chunk) => (body += chunk));
    request.on('end', () => {
      const url = new URL(request.url, origin);
      if (url.pathname === '/callback') {
        const parameters = request.method === 'POST' ? new URLSearchParams(body) : url.searchParams;
        received.push({ method: request.method, headers: request.headers, ...Object.fromEntries(parameters) });
      }
      response.setHeader('content-type', 'text/html; charset=utf-8');
      response.end(`<!DOCTYPE html><html lang="en"><link rel="icon" href="data:,"><title>The application</title>
        ${pages[url.pathname] ?? '<h1>The application</h1>'}`);
    });
  });
  return { origin, callback: `${origin}/callback`, received };
}

export const query = (parameters) => new URLSearchParams(parameters).toString();

/** Uses a new page, and fails when anything stood in its console or a dialog came up. */
export async function visit(options, use) {
  const context = await browser.newContext(options);
  const problems = [];
  context.on('page', (page) => {
    page.setDefaultTimeout(20_000);
    page.on('console', (message) => {
      // Browsers say so of every page whose status is an error.
      const isStatus = message.text().startsWith('Failed to load resource: the server responded with a status of');
      if (!(isStatus && message.location().url === page.url())) problems.push(`console: ${message.text()}`);
    });
    page.on('pageerror', (error) => problems.push(`error: ${error}`));
    page.on('dialog', (dialog) => {
      problems.push(`dialog: ${dialog.message()}`);
      dialog.dismiss();
    });
  });
  try {
    const page = await context.newPage();
    await use(page, problems);
    assert.deepEqual(problems, []);
  } finally {
    await context.close();
  }
}

export const heading = (page) => page.getByRole('heading', { level: 1 }).innerText();
