import { graphql } from 'relay-runtime';

// What an application would write; the compiler checks it against the contract and writes `__generated__`.
export const OrdersQuery = graphql`
  query operationsOrdersQuery($first: Int!, $after: String) {
    ...operationsOrders_list @arguments(first: $first, after: $after)
  }
`;

export const OrdersList = graphql`
  fragment operationsOrders_list on Query @argumentDefinitions(first: { type: "Int!" }, after: { type: "String" }) {
    orders(first: $first, after: $after) @connection(key: "operationsOrders_orders") {
      edges {
        node {
          id
          externalId
        }
      }
    }
  }
`;

export const WatchSubscription = graphql`
  subscription operationsWatchSubscription($tenantId: ID!) {
    metricsUpdated(tenantId: $tenantId) {
      ordersCount
    }
  }
`;
