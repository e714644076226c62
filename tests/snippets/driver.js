
const lines = require("node:fs").readFileSync(0, "utf8").trimEnd().split("\n");
for (const line of lines) {
  const [secret, method, path, now, body, head] = line
    .split(" ")
    .map((field) => Buffer.from(field, "base64"));
  const headers = {};
  for (const field of head.toString().split("\n")) {
    const colon = field.indexOf(": ");
    headers[field.slice(0, colon).toLowerCase()] = field.slice(colon + 2);
  }
  const key = keyOf(secret.toString());
  const time = Date.parse(now.toString());
  console.log(isGenuine(key, method.toString(), path.toString(), headers, body, time));
}
