import {
  forwardedRequestHeaders,
  forwardedResponseHeaders,
  hasLooped,
  headerOf,
} from '@dumont/control-plane/gateway/headers.ts';
import { expect, test } from 'vitest';

const hop = { remoteAddress: '10.0.0.7', protocol: 'https', prefix: '/w/demo', apiToken: 'secret-api-token' } as const;

test('what is meant for the hop goes no further, and what names it is the gateway’s own word', () => {
  const sent = forwardedRequestHeaders(
    rawOf(`Host: cloud.test
      Connection: keep-alive, X-Secret, Content-Length
      X-Secret: 1
      Keep-Alive: 5
      Content-Length: 3
      X-Forwarded-For: 1.2.3.4
      X-Forwarded-Host: evil
      Forwarded: for=evil
      Proxy-Authorization: x
      TE: trailers
      Expect: 100-continue
      X-Twice: a
      X-Twice: b
      Via: 1.0 a`),
    hop,
  );
  expect(sent).toEqual(
    rawOf(`Host: cloud.test
      Content-Length: 3
      X-Twice: a
      X-Twice: b
      X-Forwarded-For: 1.2.3.4, 10.0.0.7
      X-Forwarded-Proto: https
      X-Forwarded-Host: cloud.test
      X-Forwarded-Prefix: /w/demo
      Via: 1.0 a, 1.1 dumont`),
  );
  expect(hasLooped(headerOf(sent, 'via'))).toBe(true);
});

test('a body in chunks is announced in chunks, whatever the method', () => {
  const sent = forwardedRequestHeaders(['Host', 'x', 'Transfer-Encoding', 'Chunked'], hop);
  expect(headerOf(sent, 'transfer-encoding')).toBe('chunked');
});

test('our tokens and cookies go to no workload; its own do', () => {
  const authorization = (value: string) =>
    headerOf(forwardedRequestHeaders(['Authorization', value], hop), 'authorization');
  expect(authorization('bearer  secret-api-token')).toBeUndefined();
  expect(authorization('Bearer another')).toBe('Bearer another');
  const cookie = (value: string) => headerOf(forwardedRequestHeaders(['Cookie', value], hop), 'cookie');
  expect(cookie('a=1; dumont-gateway=t; b=2')).toBe('a=1; b=2');
  expect(cookie('dumont-gateway=t')).toBeUndefined();
  expect(
    headerOf(forwardedRequestHeaders(['X-Dumont-Gateway-Token', 't'], hop), 'x-dumont-gateway-token'),
  ).toBeUndefined();
});

test('below a prefix, answers keep to it and do not speak for the whole origin', () => {
  const answer = (...raw: string[]) => forwardedResponseHeaders(raw, hop);
  expect(answer('Location', '/login')).toEqual(['Location', '/w/demo/login']);
  expect(answer('Location', '/w/demo/login')).toEqual(['Location', '/w/demo/login']);
  expect(answer('Location', 'https://other.test/')).toEqual(['Location', 'https://other.test/']);
  expect(answer('Set-Cookie', 'a=1; Path=/x; Domain=cloud.test; Secure')).toEqual([
    'Set-Cookie',
    'a=1; Secure; Path=/w/demo/x',
  ]);
  expect(answer('Set-Cookie', 'DUMONT-gateway=x')).toEqual([]);
  expect(answer('Service-Worker-Allowed', '/', 'Clear-Site-Data', '"*"', 'Connection', 'close')).toEqual([]);
  const own = ['Location', '/login', 'Set-Cookie', 'a=1; Path=/x'];
  expect(forwardedResponseHeaders(own, { prefix: '' })).toEqual(own);
});

/** Lines as they stand in a request, as `[name, value, …]`. */
function rawOf(lines: string): readonly string[] {
  return lines.split('\n').flatMap((line) => {
    const [name = '', value = ''] = line.trim().split(/: (.*)/);
    return [name, value];
  });
}
