"""Python's gql: queries by aiohttp, subscriptions by aiohttp (which offers the legacy protocol first) and by websockets."""

import asyncio
import os
import unittest

from gql import Client, GraphQLRequest, gql
from gql.transport.aiohttp import AIOHTTPTransport
from gql.transport.aiohttp_websockets import AIOHTTPWebsocketsTransport
from gql.transport.exceptions import TransportQueryError
from gql.transport.websockets import WebsocketsTransport

URL, SOCKET_URL = os.environ["URL"], os.environ["SOCKET_URL"]
AUTHORIZATION, TENANT_ID = os.environ["AUTHORIZATION"], os.environ["TENANT_ID"]
# A period that holds the orders, whatever the day.
WATCH = """
    subscription ($tenantId: ID!) {
        metricsUpdated(tenantId: $tenantId, period: { start: "2026-01-01T00:00:00Z", end: "2026-02-01T00:00:00Z" }) {
            ordersCount
        }
    }
"""
SELL = "mutation ($events: [SalesEventInput!]!) { recordEvents(events: $events) { position } }"


def http() -> AIOHTTPTransport:
    return AIOHTTPTransport(url=URL, headers={"Authorization": AUTHORIZATION})


async def sell(order_id: str) -> None:
    line = {"productId": "tea", "quantity": 1, "amount": "10.00"}
    event = {"eventId": order_id, "occurredAt": "2026-01-05T10:00:00Z", "orderPlaced": {"orderId": order_id, "lines": [line]}}
    async with Client(transport=http()) as session:
        await session.execute(GraphQLRequest(SELL, variable_values={"events": [event]}))


class GqlTest(unittest.IsolatedAsyncioTestCase):
    async def test_a_query_against_the_schema_it_fetched(self) -> None:
        async with Client(transport=http(), fetch_schema_from_transport=True) as session:
            answer = await session.execute(gql("{ me { role } }"))
        self.assertEqual(answer, {"me": {"role": "ADMIN"}})

    async def test_errors_have_their_codes(self) -> None:
        async with Client(transport=http()) as session:
            with self.assertRaises(TransportQueryError) as raised:
                await session.execute(gql("{ nothing }"))
        self.assertEqual(raised.exception.errors[0]["extensions"]["code"], "GRAPHQL_VALIDATION_FAILED")

    async def follow(self, transport, order_id: str) -> None:
        watch = GraphQLRequest(WATCH, variable_values={"tenantId": TENANT_ID})
        counts = []
        async with Client(transport=transport) as session:
            async for answer in session.subscribe(watch):
                counts.append(answer["metricsUpdated"]["ordersCount"])
                if len(counts) == 2:
                    break
                await sell(order_id)
        self.assertEqual(counts[1], counts[0] + 1)

    async def test_a_subscription_by_websockets(self) -> None:
        # Left alone, this transport looks for the server's choice under a name of the header in one spelling only, and
        # falls back to the legacy protocol.
        protocols = [WebsocketsTransport.GRAPHQLWS_SUBPROTOCOL]
        init = {"Authorization": AUTHORIZATION}
        transport = WebsocketsTransport(url=SOCKET_URL, init_payload=init, subprotocols=protocols)
        await asyncio.wait_for(self.follow(transport, "gql-1"), 20)

    async def test_a_subscription_by_aiohttp(self) -> None:
        init = {"Authorization": AUTHORIZATION}
        await asyncio.wait_for(self.follow(AIOHTTPWebsocketsTransport(url=SOCKET_URL, init_payload=init), "gql-2"), 20)


if __name__ == "__main__":
    unittest.main()
