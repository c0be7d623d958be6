for(const button of document.querySelectorAll('th button'))button.onclick=()=>{
const head=button.closest('th'),table=head.closest('table'),at=[...head.parentNode.children].indexOf(head);
const up=head.getAttribute('aria-sort')!=='ascending';
for(const other of head.parentNode.children)other.removeAttribute('aria-sort');
head.setAttribute('aria-sort',up?'ascending':'descending');
const value=row=>{const cell=row.children[at];return cell.dataset.value??cell.textContent};
const rows=[...table.tBodies[0].rows].sort((a,b)=>{const x=value(a),y=value(b);
return (isNaN(x)||isNaN(y)?String(x).localeCompare(y):x-y)*(up?1:-1)});
table.tBodies[0].append(...rows)};
