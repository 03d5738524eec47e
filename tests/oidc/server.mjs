// An OpenID Connect provider for the tests: node server.mjs MODULES PORT KEYS [rotate|drop|opaque]
//   MODULES  the node_modules folder that holds oidc-provider
//   KEYS     file with the private key set; made if it does not exist
//   rotate   a new key signs, the old ones are still published; drop: only the newest key is left
//   opaque   access tokens say nothing to anybody but this provider, and it can be asked about them (RFC 7662)
// Its client `reporting` gets access tokens as JWTs for the audience data-api, and may revoke them (RFC 7009); `doorward` may
// ask about them.
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
  accessTokenFormat: change === "opaque" ? "opaque" : "jwt",
  accessTokenTTL: 300,
  ...(change === "opaque" ? {} : { jwt: { sign: { alg: "RS256" } } }),
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
    {
      client_id: "doorward",
      // With characters that RFC 6749, section 2.3.1, has encoded.
      client_secret: "s3cret + of:100% & more",
      grant_types: [],
      redirect_uris: [],
      response_types: [],
    },
  ],
  features: {
    devInteractions: { enabled: false },
    clientCredentials: { enabled: true },
    introspection: { enabled: change === "opaque" },
    revocation: { enabled: change === "opaque" },
    resourceIndicators: {
      enabled: true,
      defaultResource: () => "https://data.test",
      getResourceServerInfo: () => server,
      useGrantedResource: () => true,
    },
  },
  extraTokenClaims: () => ({ region: "west", groups: ["analysts"], person: "alice" }),
});
provider.listen(Number(port), "127.0.0.1");
