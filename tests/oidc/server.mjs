// An OpenID Connect provider for the tests: node server.mjs MODULES PORT KEYS [rotate|drop]
//   MODULES  the node_modules folder that holds oidc-provider
//   KEYS     file with the private key set; made if it does not exist
//   rotate   a new key signs, the old ones are still published; drop: only the newest key is left
// Its one client, `reporting`, gets access tokens as JWTs for the audience data-api.
import { generateKeyPairSync, randomUUID } from "node:crypto";
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { pathToFileURL } from "node:url";

const [modules, port, file, change] = process.argv.slice(2);
const { default: Provider } = await import(pathToFileURL(join(modules, "oidc-provider/lib/index.js")));

const fresh = () => ({
  ...generateKeyPairSync("rsa", { modulusLength: 2048 }).privateKey.export({ format: "jwk" }),
  kid: randomUUID(),
  alg: "RS256",
  use: "sig",
});
let keys = existsSync(file) ? JSON.parse(readFileSync(file, "utf8")) : [fresh()];
if (change === "rotate") keys = [fresh(), ...keys];
if (change === "drop") keys = keys.slice(0, 1);
writeFileSync(file, JSON.stringify(keys), { mode: 0o600 });

const server = {
  scope: "read",
  audience: "data-api",
  accessTokenFormat: "jwt",
  accessTokenTTL: 300,
  jwt: { sign: { alg: "RS256" } },
};
const provider = new Provider(`http://127.0.0.1:${port}`, {
  jwks: { keys },
  clients: [
    {
      client_id: "reporting",
      client_secret: "reporting-secret",
      grant_types: ["client_credentials"],
      redirect_uris: [],
      response_types: [],
    },
  ],
  features: {
    devInteractions: { enabled: false },
    clientCredentials: { enabled: true },
    resourceIndicators: {
      enabled: true,
      defaultResource: () => "https://data.test",
      getResourceServerInfo: () => server,
      useGrantedResource: () => true,
    },
  },
  extraTokenClaims: () => ({ region: "west", groups: ["analysts"] }),
});
provider.listen(Number(port), "127.0.0.1");
