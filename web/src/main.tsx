import { useGraphiQL } from '@graphiql/react';
import { GraphiQL } from 'graphiql';
import 'graphiql/style.css';
import { buildSchema } from 'graphql';
import { useEffect } from 'react';
import { createRoot } from 'react-dom/client';
import sdl from '../../schema.graphql?raw';
import { examples } from './examples';
import { fetcher } from './fetcher';
import { keepHeaders, keptHeaders, openingHeaders, tenantOf } from './headers';
import './page.css';
import './workers';

const schema = buildSchema(sdl);
const opening = openingHeaders();
const tenantId = tenantOf(opening);

// Another token given to a page that is open already: only the fragment changes, nothing loads.
addEventListener('hashchange', () => location.hash.startsWith('#token=') && location.reload());

/** The name of the page. It also brings a token that was pasted in one tab to those that still show the opening text. */
function Logo() {
  const { headerEditor, activeTabIndex } = useGraphiQL(({ headerEditor, activeTabIndex }) => ({ headerEditor, activeTabIndex }));
  useEffect(() => {
    const kept = keptHeaders();
    if (kept && headerEditor?.getValue() === opening) headerEditor.setValue(kept);
  }, [headerEditor, activeTabIndex]);
  return 'SalesPulse';
}

createRoot(document.getElementById('root')!).render(
  <GraphiQL
    fetcher={fetcher}
    // The server's own contract: completion and documentation work before there is a token, while
    // GraphiQL would ask for the schema before its Headers pane is there, that is without one.
    schema={schema}
    defaultTabs={examples(tenantId).map((example) => ({ ...example, headers: opening }))}
    defaultHeaders={opening}
    defaultEditorToolsVisibility={tenantId ? 'variables' : 'headers'}
    onEditHeaders={(text) => text !== opening && keepHeaders(text)}
    // GraphiQL's history holds the Headers pane, and so a token: no longer than the browser's tab.
    storage={sessionStorage}
  >
    <GraphiQL.Logo>
      <Logo />
    </GraphiQL.Logo>
  </GraphiQL>,
);
