import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import type { Id } from '../../../base/index.ts';
import type { Image } from '../../../keep/index.ts';
import { formatTable, formatTabs } from './brightbox-table.ts';
import { formatImage, IMAGE_COLUMNS, inListOrder } from './image-views.ts';

const MIB = 1024 * 1024;

function image(id: string, facts: Partial<Image>): Image {
  return {
    id: id as Id<'img'>,
    ownerId: 'acc-h3nbk',
    name: '',
    description: '',
    kind: 'upload',
    arch: 'i686',
    ancestorId: undefined,
    compatibilityMode: false,
    status: 'available',
    isPublic: false,
    isOfficial: false,
    isLocked: false,
    createdAt: 0,
    virtualSizeBytes: 0,
    gzipSizeBytes: 0,
    addedBytes: 0,
    plainDigest: undefined,
    capture: {
      consistency: 'frozen',
      freezeMs: 0,
      filesystem: 'ext4',
      source: '/',
      freeSpace: 'zero',
    },
    ...facts,
  };
}

function official(id: string, day: string, size: number, name: string, arch: string): Image {
  return image(id, {
    isOfficial: true,
    isPublic: true,
    createdAt: Date.parse(`${day}T00:00:00Z`),
    virtualSizeBytes: size * MIB,
    name,
    arch,
  });
}

const SNAPSHOT = image('img-y22uq', {
  kind: 'snapshot',
  createdAt: Date.parse('2010-12-19T12:57:37Z'),
  virtualSizeBytes: 20480 * MIB,
  gzipSizeBytes: 420.1 * MIB,
  name: 'Snapshot of srv-gwgk2 19 Dec 12:57',
  ancestorId: 'img-9vxqi',
});

// The transcript of the guide, but for one image: its account had a name two characters longer than
// any that is shown, so the last column is two wider there. `img-zzzzz` stands for it here.
const GUIDE = `
 id         owner      type      created_on  status    size   name                                       
----------------------------------------------------------------------------------------------------------
 img-99q79  brightbox  official  2010-10-02  public    10244  CentOS 5.5 server (i686)                   
 img-pnqnc  brightbox  official  2010-10-03  public    10240  CentOS 5.5 server (x86_64)                 
 img-qjuex  brightbox  official  2010-10-14  public    10244  Fedora 14 Beta Base (i686)                 
 img-vyeeg  brightbox  official  2010-10-15  public    10244  Fedora 14 Beta Base (x86_64)               
 img-1okdf  brightbox  official  2010-11-19  public    20480  FreeBSD 8.1 minimal (i686)                 
 img-aoubd  brightbox  official  2010-11-19  public    20480  FreeBSD 8.1 minimal (x86_64)               
 img-9vxqi  brightbox  official  2010-10-14  public    1409   Ubuntu Maverick 10.10 server (i686)        
 img-t4p09  brightbox  official  2010-10-14  public    1409   Ubuntu Maverick 10.10 server (x86_64)      
 img-zzzzz  acc-h3nbk  snapshot  2010-12-18  private   20480  Snapshot of srv-aaaaa 18 Dec 10:00 (x86_64)
 img-y22uq  acc-h3nbk  snapshot  2010-12-19  creating  20480  Snapshot of srv-gwgk2 19 Dec 12:57 (i686)  
----------------------------------------------------------------------------------------------------------

`;

const LISTED: readonly Image[] = [
  { ...SNAPSHOT, status: 'creating' },
  official('img-t4p09', '2010-10-14', 1409, 'Ubuntu Maverick 10.10 server', 'x86_64'),
  official('img-99q79', '2010-10-02', 10244, 'CentOS 5.5 server', 'i686'),
  official('img-aoubd', '2010-11-19', 20480, 'FreeBSD 8.1 minimal', 'x86_64'),
  official('img-pnqnc', '2010-10-03', 10240, 'CentOS 5.5 server', 'x86_64'),
  official('img-qjuex', '2010-10-14', 10244, 'Fedora 14 Beta Base', 'i686'),
  image('img-zzzzz', {
    ...SNAPSHOT,
    id: 'img-zzzzz',
    arch: 'x86_64',
    createdAt: Date.parse('2010-12-18T10:00:00Z'),
    name: 'Snapshot of srv-aaaaa 18 Dec 10:00',
  }),
  official('img-9vxqi', '2010-10-14', 1409, 'Ubuntu Maverick 10.10 server', 'i686'),
  official('img-1okdf', '2010-11-19', 20480, 'FreeBSD 8.1 minimal', 'i686'),
  official('img-vyeeg', '2010-10-15', 10244, 'Fedora 14 Beta Base', 'x86_64'),
];

describe('images list', () => {
  test("prints the guide's transcript, byte for byte", () => {
    assert.equal(formatTable(IMAGE_COLUMNS, inListOrder(LISTED)), GUIDE);
  });

  test('without an image has its headings', () => {
    assert.match(formatTable(IMAGE_COLUMNS, []), /^\n id {2}owner {2}type .*name\n-+\n-+\n\n$/);
  });

  test('shortens names for a narrow terminal, never the id', () => {
    const lines = formatTable(IMAGE_COLUMNS, LISTED, 80).split('\n');
    assert.ok(lines.every((line) => line.length <= 80));
    assert.ok(lines.some((line) => line.startsWith(' img-y22uq') && line.endsWith('...')));
  });

  test('for programs has tabs between fields and no control character from a name', () => {
    const named = image('img-aaaaa', { name: 'a\tb\u001b[31m\nc' });
    const text = formatTabs(IMAGE_COLUMNS, [named]);
    assert.equal(text.split('\t').length, IMAGE_COLUMNS.length);
    assert.equal(text.trimEnd().split('\n').length, 1);
    assert.equal(text.includes('\u001b'), false);
  });
});

describe('images show', () => {
  test("prints the guide's fields, byte for byte", () => {
    assert.equal(
      formatImage(SNAPSHOT, { isLong: false }),
      `                id: img-y22uq
              type: snapshot
             owner: acc-h3nbk
        created_at: 2010-12-19T12:57:37Z
            status: private
              arch: i686
              name: Snapshot of srv-gwgk2 19 Dec 12:57 (i686)
       description: 
      virtual_size: 20480
         disk_size: 421
compatibility_mode: false
          official: false
       ancestor_id: img-9vxqi
`,
    );
  });
});
