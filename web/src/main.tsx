import { GraphiQL } from 'graphiql';
import 'graphiql/style.css';
import { createRoot } from 'react-dom/client';
import { examples } from './examples';
import { fetcher } from './fetcher';
import './page.css';
import { keepHeaders, openingHeaders, tenantOf } from './token';
import './workers';

const headers = openingHeaders();
const tenantId = tenantOf(headers);

// Another token given to a page that is open already: only the fragment changes, nothing loads.
addEventListener('hashchange', () => location.hash.startsWith('#token=') && location.reload());

createRoot(document.getElementById('root')!).render(
  <GraphiQL
    fetcher={fetcher}
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
