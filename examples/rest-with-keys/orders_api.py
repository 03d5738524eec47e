"""A small REST service over five orders: the data API of this example. It checks nothing and shows everything."""

import json
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qsl, urlsplit

ORDERS = [
    {"id": number, "region": region, "status": status, "total": 10.5 * number,
     "customer_email": f"customer{number}@example.com", "internal_note": f"margin {number} %"}
    for number, region, status in [
        (1, "west", "paid"), (2, "east", "open"), (3, "west", "open"), (4, "east", "paid"), (5, "west", "shipped"),
    ]
]


class Orders(BaseHTTPRequestHandler):
    def answer(self, value, status=200):
        body = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self):
        url = urlsplit(self.path)
        if url.path != "/shop/orders":
            return self.answer({"error": "not found"}, 404)
        asked = dict(parse_qsl(url.query))
        limit = int(asked.pop("limit", 1000))
        found = [order for order in ORDERS if all(order[name] == value for name, value in asked.items())]
        return self.answer({"items": found[:limit], "count": len(found), "database_host": "10.1.2.3"})

    def do_PATCH(self):
        change = json.loads(self.rfile.read(int(self.headers["content-length"])))
        for order in ORDERS:
            if self.path == f"/shop/orders/{order['id']}":
                order.update(change)
                return self.answer(order)
        return self.answer({"error": "not found"}, 404)


if __name__ == "__main__":
    ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Orders).serve_forever()
