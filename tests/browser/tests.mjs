// All of them, or the topics that are named, in one process with the same browser.
import { after } from 'node:test';
import { cleanUp } from './world.mjs';

after(cleanUp);
const named = process.argv.slice(2);
const topics = ['consent', 'errors', 'form_post', 'injection', 'history', 'appearance', 'composed'];
try {
  for (const topic of named.length ? named : topics) await import(`./${topic}.mjs`);
} catch (error) {
  // Nothing would end the browser.
  console.error(error);
  await cleanUp();
  process.exit(1);
}
