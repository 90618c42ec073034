// A request as code that somebody can run: curl, Python, C# and JavaScript. The API token is never written into it.
import { announce, button, h, write } from "./dom.js";
import { base } from "./api.js";

const shell = (text) => `'${text.replaceAll("'", "'\\''")}'`;
const LANGUAGES = { curl, Python: python, "C#": csharp, JavaScript: javascript };

/** Python's form of JSON: its texts and numbers are Python's, its words are not. */
function literal(value) {
  if (value === null) return "None";
  if (typeof value === "boolean") return value ? "True" : "False";
  if (Array.isArray(value)) return `[${value.map(literal).join(", ")}]`;
  if (typeof value === "object") {
    return `{${Object.entries(value).map(([name, item]) => `${JSON.stringify(name)}: ${literal(item)}`).join(", ")}}`;
  }
  return JSON.stringify(value);
}

function curl({ path, body, stream }) {
  return `curl ${stream ? "-N " : ""}${shell(base + path)} \\
  -H "Authorization: Bearer $GRAYCAT_TOKEN" -H 'Content-Type: application/json' \\
  -d ${shell(JSON.stringify(body))}
`;
}

function python({ path, body, stream }) {
  const read = stream
    ? `    for line in response.iter_lines():
        if line.startswith(b"data: ") and line != b"data: [DONE]":
            choices = json.loads(line[6:])["choices"]
            if choices:
                print(choices[0]["delta"].get("content") or "", end="", flush=True)
`
    : `    print(json.dumps(response.json(), indent=2))
`;
  return `import json
import os

import requests  # pip install requests

with requests.post(
    ${JSON.stringify(base + path)},
    headers={"Authorization": "Bearer " + os.environ["GRAYCAT_TOKEN"]},
    json=${literal(body)},
    stream=${stream ? "True" : "False"},
    timeout=300,
) as response:
    response.raise_for_status()
${read}`;
}

function csharp({ path, body, stream }) {
  const read = stream
    ? `using var reader = new StreamReader(await response.Content.ReadAsStreamAsync());
while (await reader.ReadLineAsync() is { } line)
{
    if (!line.StartsWith("data: ") || line == "data: [DONE]") continue;
    var choices = JsonDocument.Parse(line[6..]).RootElement.GetProperty("choices");
    if (choices.GetArrayLength() > 0 && choices[0].GetProperty("delta").TryGetProperty("content", out var text))
        Console.Write(text.GetString());
}
`
    : `Console.WriteLine(await response.Content.ReadAsStringAsync());
`;
  return `using System.Net.Http.Headers;
using System.Text;
using System.Text.Json;

var client = new HttpClient();
var request = new HttpRequestMessage(HttpMethod.Post, ${JSON.stringify(base + path)});
request.Headers.Authorization = new AuthenticationHeaderValue(
    "Bearer", Environment.GetEnvironmentVariable("GRAYCAT_TOKEN"));
request.Content = new StringContent("""
    ${JSON.stringify(body)}
    """, Encoding.UTF8, "application/json");
using var response = await client.SendAsync(request, HttpCompletionOption.ResponseHeadersRead);
response.EnsureSuccessStatusCode();
${read}`;
}

function javascript({ path, body, stream }) {
  const read = stream
    ? `let rest = "";
for await (const piece of response.body.pipeThrough(new TextDecoderStream())) {
  const lines = (rest + piece).split("\\n");
  rest = lines.pop();
  for (const line of lines) {
    if (!line.startsWith("data: ") || line === "data: [DONE]") continue;
    process.stdout.write(JSON.parse(line.slice(6)).choices[0]?.delta.content ?? "");
  }
}
`
    : `console.log(await response.json());
`;
  return `// Node 18 or newer, as a module: save it as request.mjs.
const response = await fetch(${JSON.stringify(base + path)}, {
  method: "POST",
  headers: { Authorization: \`Bearer \${process.env.GRAYCAT_TOKEN}\`, "Content-Type": "application/json" },
  body: JSON.stringify(${JSON.stringify(body)}),
});
if (!response.ok) throw new Error(await response.text());
${read}`;
}

/** Show a request as code in an element; ``describe`` returns it as {path, body, stream}. Returns how to refresh it. */
export function showSamples(element, describe) {
  const name = element.dataset.sample;
  const language = h("select", { id: `sample-${name}` }, ...Object.keys(LANGUAGES).map((key) => h("option", {}, key)));
  const code = h("code");
  const box = h("details", {},
    h("summary", {}, "This request as code"),
    h("div", { class: "row" },
      h("label", { for: language.id }, "Language"), language,
      button("Copy", "Copy", async () => {
        try {
          await navigator.clipboard.writeText(code.textContent);
          announce("Copied.");
        } catch {
          getSelection().selectAllChildren(code);
          announce("This browser does not let the page copy: the code is selected.");
        }
      })),
    h("pre", { tabindex: "0", role: "region", "aria-label": "Code" }, code));
  const refresh = () => box.open && write(code, LANGUAGES[language.value](describe()));
  box.addEventListener("toggle", refresh);
  language.addEventListener("change", refresh);
  element.replaceChildren(box);
  return refresh;
}
