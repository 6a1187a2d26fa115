// Hashes of orders with every field set, by the official client's library.
// usage: node official_order_hashes.mjs <folder with node_modules/iexec> <rpc url> <hub> <chain id>
import { pathToFileURL } from 'node:url';
import { readFileSync } from 'node:fs';
const [folder, host, hub, chainId] = process.argv.slice(2);
const root = pathToFileURL(folder + '/node_modules/iexec/');
const { IExec, utils } = await import(new URL('dist/esm/lib/index.js', root));
const { version } = JSON.parse(readFileSync(new URL('package.json', root)));
const ethProvider = utils.getSignerFromPrivateKey(host, '0x' + '4b'.repeat(32), { allowExperimentalNetworks: true });
const iexec = new IExec({ ethProvider }, { hubAddress: hub, isNative: false, useGas: true, smsURL: 'http://127.0.0.1:1', iexecGatewayURL: 'http://127.0.0.1:1' });
const a = (n) => '0x' + n.toString(16).padStart(2, '0').repeat(20);
const salt = (n) => '0x' + n.toString(16).padStart(2, '0').repeat(32);
const tag = (t) => '0x' + t.toString(16).padStart(64, '0');
const orders = {
  apporder: [
    { app: a(0x11), appprice: '123456789', volume: '1000000', tag: tag(0x9), datasetrestrict: a(0x12), workerpoolrestrict: a(0x13), requesterrestrict: a(0x14), salt: salt(0xa1) },
    { app: a(0xab), appprice: '0', volume: '9007199254740991', tag: tag(0), datasetrestrict: a(0), workerpoolrestrict: a(0), requesterrestrict: a(0), salt: salt(0x00) },
  ],
  datasetorder: [
    { dataset: a(0x21), datasetprice: '987654321', volume: '9007199254740990', tag: tag(0x103), apprestrict: a(0x22), workerpoolrestrict: a(0x23), requesterrestrict: a(0x24), salt: salt(0xa2) },
  ],
  workerpoolorder: [
    { workerpool: a(0x31), workerpoolprice: '5000000000', volume: '42', tag: tag(0x109), category: '4', trust: '16', apprestrict: a(0x32), datasetrestrict: a(0x33), requesterrestrict: a(0x34), salt: salt(0xa3) },
    { workerpool: a(0x31), workerpoolprice: '0', volume: '1', tag: tag(0x0), category: '0', trust: '0', apprestrict: a(0), datasetrestrict: a(0), requesterrestrict: a(0), salt: salt(0xff) },
  ],
  requestorder: [
    { app: a(0x41), appmaxprice: '1', dataset: a(0x42), datasetmaxprice: '22', workerpool: a(0x43), workerpoolmaxprice: '333', requester: a(0x44), volume: '7', tag: tag(0x9), category: '3', trust: '5', beneficiary: a(0x45), callback: a(0x46), params: { iexec_args: 'p\u00fcr\u00e9e "x" \u2713', iexec_input_files: ['https://example.com/a.txt'], iexec_result_encryption: true, iexec_result_storage_provider: 'ipfs', iexec_secrets: { 1: 'name' } }, salt: salt(0xa4) },
  ],
};
const calls = { apporder: 'hashApporder', datasetorder: 'hashDatasetorder', workerpoolorder: 'hashWorkerpoolorder', requestorder: 'hashRequestorder' };
const out = { version, chainId: Number(chainId), hub, orders: [] };
for (const [kind, list] of Object.entries(orders)) for (const order of list) {
  if (kind === 'requestorder') order.params = JSON.stringify(order.params);
  const hash = await iexec.order[calls[kind]](order);
  out.orders.push({ kind, order, hash });
}
console.log(JSON.stringify(out, null, 2));
process.exit(0);
