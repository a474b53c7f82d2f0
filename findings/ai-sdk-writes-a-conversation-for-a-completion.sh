#!/usr/bin/env bash
# ai 6.0.326, @ai-sdk/openai 3.0.141, @ai-sdk/fireworks 2.0.90 (seen on 2026-11-29, Node.js 20 or newer)
#
# A model that continues text (a base model, or one tuned on plain text) is asked through the endpoint of completions:
# `generateText({model: provider.completion("m"), prompt: "Once upon a time"})`. What is sent is not the prompt. It is a
# conversation in plain words, with "user:" before it and "assistant:" behind it, and a stop string "\nuser:" that nobody asked
# for. No setting sends the text as it stands, and no warning tells of the change: a model is judged on a prompt that it was
# never given, and a text in which a line begins with "user:" is cut.
#
# We had expected the prompt as it was written, as the openai package sends it. The cure is that package, or a `fetch` of
# one's own. The newest, ai 7.0.173 with @ai-sdk/openai 4.0.118, wants Node.js 22 and does the same.
#
# Output seen:
#   openai: {"prompt":"user:\nOnce upon a time\n\nassistant:\n","stop":["\nuser:"]}, warnings []
#   fireworks: {"prompt":"user:\nOnce upon a time\n\nassistant:\n","stop":["\nuser:"]}, warnings []
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
npm install --prefix "$folder" --silent --no-audit --no-fund \
    ai@6.0.326 @ai-sdk/openai@3.0.141 @ai-sdk/fireworks@2.0.90 > npm.log 2>&1
cat > look.mjs <<'JS'
import { createServer } from "node:http";
import { createFireworks } from "@ai-sdk/fireworks";
import { createOpenAI } from "@ai-sdk/openai";
import { generateText } from "ai";

const asked = [];
const server = createServer((request, response) => {
  let body = "";
  request.on("data", (piece) => (body += piece));
  request.on("end", () => {
    asked.push(JSON.parse(body));
    const choices = [{ index: 0, text: " there was", finish_reason: "stop" }];
    const usage = { prompt_tokens: 1, completion_tokens: 1, total_tokens: 2 };
    response.setHeader("content-type", "application/json");
    response.end(JSON.stringify({ id: "c", object: "text_completion", created: 1, model: "m", choices, usage }));
  });
});
await new Promise((done) => server.listen(0, "127.0.0.1", done));
const settings = { apiKey: "k", baseURL: `http://127.0.0.1:${server.address().port}/v1` };
const models = {
  openai: createOpenAI(settings).completion("m"),
  fireworks: createFireworks(settings).completionModel("m"),
};
const seen = [];
for (const [name, model] of Object.entries(models)) {
  const { warnings } = await generateText({ model, prompt: "Once upon a time" });
  const { prompt, stop } = asked.at(-1);
  seen.push(`${JSON.stringify({ prompt, stop })}, warnings ${JSON.stringify(warnings)}`);
  console.log(`${name}: ${seen.at(-1)}`);
}
server.close();
server.closeAllConnections();
const sent = JSON.stringify({ prompt: "user:\nOnce upon a time\n\nassistant:\n", stop: ["\nuser:"] });
if (!seen.every((one) => one === `${sent}, warnings []`)) {
  console.error("the behaviour has changed");
  process.exitCode = 1;
}
JS
node look.mjs
