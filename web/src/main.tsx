import { GraphiQL } from 'graphiql';
import 'graphiql/style.css';
import { buildSchema } from 'graphql';
import { createRoot } from 'react-dom/client';
import sdl from '../../schema.graphql?raw';
import { examples } from './examples';
import { fetcher } from './fetcher';
import './page.css';
import { keepHeaders, openingHeaders, tenantOf } from './token';
import './workers';

const schema = buildSchema(sdl);
const headers = openingHeaders();
const tenantId = tenantOf(headers);

// Another token given to a page that is open already: only the fragment changes, nothing loads.
addEventListener('hashchange', () => location.hash.startsWith('#token=') && location.reload());

createRoot(document.getElementById('root')!).render(
  <GraphiQL
    fetcher={fetcher}
    // The server's own contract: completion and documentation work before there is a token, while
    // GraphiQL would ask for the schema before its Headers pane is there, that is without one.
    schema={schema}
    defaultTabs={examples(tenantId).map((example) => ({ ...example, headers }))}
    defaultHeaders={headers}
    defaultEditorToolsVisibility={tenantId ? 'variables' : 'headers'}
    onEditHeaders={keepHeaders}
    // GraphiQL's history holds the Headers pane, and so a token: no longer than the browser's tab.
    storage={sessionStorage}
  >
    <GraphiQL.Logo>SalesPulse</GraphiQL.Logo>
  </GraphiQL>,
);
